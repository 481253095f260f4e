/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* say.h - what the rooms of the plugin need of nbdkit, so that only plugin.c sees its header. */
#ifndef LSVD_GATEWAY_SAY_H
#define LSVD_GATEWAY_SAY_H

void say_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A copy that lives as long as the server (one per distinct text). NULL: no memory. */
const char *say_intern(const char *text);

#endif
