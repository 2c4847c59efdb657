/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* The attacks, one function each. What they are about stands in suite.go. */
#ifndef REDTEAM_ATTACKS_H
#define REDTEAM_ATTACKS_H

#include "../kit/kit.h"

struct attack {
	const char *name;
	void (*run)(void);
};

extern const struct attack file_attacks[], memory_attacks[], identity_attacks[], script_attacks[];

#endif
