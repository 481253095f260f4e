/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* url.h - names that mean the same in another directory; shared by the plugin and the tool. */
#ifndef LSVD_GATEWAY_URL_H
#define LSVD_GATEWAY_URL_H

/* `path`, absolute; it need not exist.  The caller frees it.  NULL: no memory. */
char *path_absolute(const char *path);

/* The same of a store's, an image's or a pool's URL: `file:NAME`, behind filters too. */
char *url_absolute(const char *url);

#endif
