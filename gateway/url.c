/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *path_absolute(const char *path)
{
	char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0), *out = NULL;

	if (!cwd)
		return strdup(path);
	if (asprintf(&out, "%s/%s", cwd, path) < 0)
		out = NULL;
	free(cwd);
	return out;
}

char *url_absolute(const char *url)
{
	const char *at = strncmp(url, "file:", 5) ? strstr(url, ":file:") : url;
	char *path, *out = NULL;

	if (!at)
		return strdup(url);
	at += *at == ':' ? 6 : 5;
	if (!*at)
		return strdup(url);
	path = path_absolute(at);
	if (!path || asprintf(&out, "%.*s%s", (int)(at - url), url, path) < 0)
		out = NULL;
	free(path);
	return out;
}
