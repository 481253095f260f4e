/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mutant.c - which break this process has; see mutant.h. */
#include "sys/mutant.h"

#ifdef LSVD_MUTANTS
#include <stdlib.h>
#include <string.h>

bool mutant_is(const char *name)
{
	static const char *chosen;

	if (!chosen) {
		chosen = getenv("LSVD_MUTANT");
		if (!chosen)
			chosen = "";
	}
	return !strcmp(chosen, name);
}
#endif
