/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* container.h - from an embedded member back to the structure around it. */
#ifndef LSVD_SYS_CONTAINER_H
#define LSVD_SYS_CONTAINER_H

#include <stddef.h>

#ifndef container_of
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))
#endif

#endif
