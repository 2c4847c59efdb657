/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* Runs the attack that its argument names. */
#include "attacks.h"

int main(int argc, char **argv)
{
	const struct attack *tables[] = { file_attacks, memory_attacks, identity_attacks, script_attacks };

	for (unsigned i = 0; argc == 2 && i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct attack *a = tables[i]; a->name; a++)
			if (strcmp(a->name, argv[1]) == 0) {
				a->run();
				return 0;
			}
	line("broken", "no such attack");
	return 2;
}
