/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fsck.h - the report of a check as JSON, for `lsvd fsck` and its test. */
#ifndef LSVD_CLI_FSCK_H
#define LSVD_CLI_FSCK_H

#include "volume/fsck.h"

#include <jansson.h>

/* A new reference. */
json_t *fsck_json(const char *image, const struct fsck_report *r, unsigned flags);

#endif
