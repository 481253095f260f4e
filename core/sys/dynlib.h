/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dynlib.h - libraries that only some URLs need (librados, libcurl, libnbd), loaded when one is
 * opened.
 *
 * So liblsvd depends on none of them: a program that uses file stores loads nothing else, starts as
 * fast as before, and runs where they are not installed.  Their headers are needed to build;
 * without them the URL's scheme is left out.
 *
 *   static struct {
 *           typeof(rados_create2) *create2;
 *           typeof(rados_shutdown) *shutdown;
 *   } lib;
 *   static const struct dynlib_symbol symbols[] = {
 *           {"rados_create2", &lib.create2}, {"rados_shutdown", &lib.shutdown}, {NULL, NULL}};
 *   rc = dynlib_load("librados.so.2", "librados2", symbols, e);
 */
#ifndef LSVD_SYS_DYNLIB_H
#define LSVD_SYS_DYNLIB_H

#include "sys/err.h"

struct dynlib_symbol {
	const char *name;
	void *to; /* address of a function pointer */
};

/* Load `soname` and fill every pointer of `symbols`, which ends with a NULL name.  It stays loaded
 * until the process ends: such libraries have threads and handlers of their own.  Loading again is
 * cheap and writes the same values, so any thread may do it.  -ENOENT: not installed (`package` is
 * named), or without one of the symbols: too old. */
int dynlib_load(const char *soname, const char *package, const struct dynlib_symbol *symbols,
	struct err *e) MUST_CHECK;

#endif
