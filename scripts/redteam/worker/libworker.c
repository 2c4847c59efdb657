/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* The worker's own library. */
__attribute__((noinline, aligned(16))) int lib_limit(void)
{
	__asm__ volatile("");
#ifdef EVIL
	return 1000000;
#else
	return 100;
#endif
}
