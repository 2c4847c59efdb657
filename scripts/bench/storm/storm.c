// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors
//
// storm COUNT [RATE SECONDS]: COUNT times vfork, exec of itself, exit, wait,
// which is posix_spawn(3) and waitpid(2); at most RATE a second, and no more
// after SECONDS. Prints how many, and the nanoseconds they took.
#include "bare.h"

static long now(void) {
	struct timespec64 t;
	sys(SYS_clock_gettime, 1, &t, 0, 0);
	return t.sec * 1000000000L + t.nsec;
}

void run(long *stack) {
	char **argv = (char **)(stack + 1);
	if (stack[0] < 2)
		end(0);
	long count = number(argv[1]), rate = stack[0] > 3 ? number(argv[2]) : 0, done = 0;
	char *child[2] = {argv[0], 0};
	long begin = now(), last = rate > 0 ? begin + number(argv[3]) * 1000000000L : 0;
	for (; done < count; done++) {
		if (rate > 0) {
			long at = now(), early = begin + done * (1000000000L / rate) - at;
			struct timespec64 t = {0, early};
			if (at >= last)
				break;
			if (early > 200000)
				sys(SYS_nanosleep, &t, 0, 0, 0);
		}
		// The child shares this stack, so every call between here and exec is inlined.
		long pid = sys(SYS_vfork, 0, 0, 0, 0);
		if (pid == 0) {
			sys(SYS_execve, argv[0], child, 0, 0);
			end(1);
		}
		if (pid < 0)
			end(2);
		int status = 0;
		sys(SYS_wait4, pid, &status, 0, 0);
		if (status != 0)
			end(3);
	}
	long took = now() - begin;
	tell(done, ' ');
	tell(took, '\n');
	end(0);
}
