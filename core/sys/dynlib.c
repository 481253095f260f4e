/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dynlib.c - see dynlib.h. */
#include "sys/dynlib.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int dynlib_load(
	const char *soname, const char *package, const struct dynlib_symbol *symbols, struct err *e)
{
	/* RTLD_LOCAL: its symbols are nobody else's; NODELETE: see the header */
	void *lib = dlopen(soname, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

	if (!lib)
		return err_set(e, -ENOENT, "cannot load %s (%s); install the package %s", soname,
			dlerror(), package);
	for (; symbols->name; symbols++) {
		void *f = dlsym(lib, symbols->name);

		if (!f)
			return err_set(e, -ENOENT,
				"%s has no %s: it is too old; install a newer %s", soname,
				symbols->name, package);
		memcpy(symbols->to, &f, sizeof(f));
	}
	return 0;
}
