/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* A program that ends at once. */
void _start(void)
{
#if defined(__x86_64__)
	__asm__ volatile("xor %edi, %edi\n mov $231, %eax\n syscall");
#elif defined(__aarch64__)
	__asm__ volatile("mov x0, #0\n mov x8, #94\n svc #0");
#endif
	__builtin_unreachable();
}
