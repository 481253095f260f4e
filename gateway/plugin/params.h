/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * params.h - the plugin's parameters, KEY=VALUE in the order they were given.
 *
 * readonly, trace, snapshot, keep-open, no-journal and steal belong to the export before them, or, before the
 * first export, to all.  Any other key is one of the library's configuration.
 */
#ifndef LSVD_GATEWAY_PARAMS_H
#define LSVD_GATEWAY_PARAMS_H

#include "gateway/plugin/exports.h"

struct params {
	struct gateway *gw;
	const char *control;  /* socket; NULL: none.  Interned */
	struct export *scope; /* the last export; NULL: all */
};

/* 0, or -errno and a message. */
int params_set(struct params *p, const char *key, const char *value, char *why);

/* After the last. */
int params_check(struct params *p, char *why);

extern const char params_help[];

#endif
