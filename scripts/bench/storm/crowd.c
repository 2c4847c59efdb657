// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors
//
// crowd COUNT: starts COUNT processes, each an exec of itself that waits,
// prints how many there are, and waits as well. They end with it.
#include "bare.h"

#include <linux/prctl.h>

void run(long *stack) {
	char **argv = (char **)(stack + 1);
	char *child[2] = {argv[0], 0};
	long count = stack[0] > 1 ? number(argv[1]) : 0, made = 0;
	for (; made < count; made++) {
		long pid = sys(SYS_vfork, 0, 0, 0, 0);
		if (pid == 0) {
			sys(SYS_prctl, PR_SET_PDEATHSIG, 9, 0, 0);
			sys(SYS_execve, argv[0], child, 0, 0);
			end(1);
		}
		if (pid < 0)
			break;
	}
	if (count > 0)
		tell(made, '\n');
	for (;;)
		sys(SYS_pause, 0, 0, 0, 0);
}
