/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* find.c - the history on disk: a directory of files named by time and commit. */
#include "results/find.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAMP_LEN = 16 }; /* 20261122T170000Z */

#define D2 "[0-9][0-9]"
static const char pattern[] = D2 D2 D2 D2 "T" D2 D2 D2 "Z-[0-9a-f]*.json";

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int results_files(const char *dir, struct results_files *out, struct err *e)
{
	char where[4096];
	struct stat st;
	glob_t g = {0};
	int rc = 0;

	*out = (struct results_files){0};
	if (stat(dir, &st) || !S_ISDIR(st.st_mode))
		return err_set(e, -ENOENT, "%s: no such directory of results", dir);
	snprintf(where, sizeof(where), "%s/%s", dir, pattern);
	if (!glob(where, 0, NULL, &g)) {
		out->paths = calloc(g.gl_pathc, sizeof(char *));
		for (size_t i = 0; out->paths && i < g.gl_pathc; i++)
			if ((out->paths[out->n] = strdup(g.gl_pathv[i])))
				out->n++;
		if (out->n < g.gl_pathc)
			rc = err_set(e, -ENOMEM, "%s: no memory", dir);
	}
	globfree(&g);
	return rc;
}

void results_files_free(struct results_files *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->paths[i]);
	free(f->paths);
	*f = (struct results_files){0};
}

static bool is_commit(const char *s)
{
	size_t n = strlen(s);

	return n >= 4 && n <= 40 && !s[strspn(s, "0123456789abcdef")];
}

/* Is `what` the beginning of this file's commit?  Names hold 7 digits; the rest is in the file. */
static bool has_commit(const char *path, const char *what)
{
	const char *in_name = base(path) + STAMP_LEN + 1;
	size_t n = strlen(what);
	struct results *r;
	bool same;

	if (strncmp(in_name, what, n < 7 ? n : 7))
		return false;
	if (n <= 7)
		return true;
	if (results_read(path, &r, NULL))
		return false;
	same = !strncmp(r->commit, what, strlen(r->commit) < n ? strlen(r->commit) : n);
	results_free(r);
	return same;
}

static const char *pick(const struct results_files *f, const char *what)
{
	if (!strcmp(what, "latest"))
		return f->n ? f->paths[f->n - 1] : NULL;
	if (!strcmp(what, "previous"))
		return f->n > 1 ? f->paths[f->n - 2] : NULL;
	for (size_t i = f->n; is_commit(what) && i-- > 0;)
		if (has_commit(f->paths[i], what))
			return f->paths[i];
	return NULL;
}

int results_resolve(const char *what, const char *dir, char *path, size_t size, struct err *e)
{
	struct results_files f;
	const char *found;
	int rc;

	if (strchr(what, '/') || !access(what, F_OK)) {
		snprintf(path, size, "%s", what);
		return 0;
	}
	rc = results_files(dir, &f, e);
	found = rc ? NULL : pick(&f, what);
	if (found)
		snprintf(path, size, "%s", found);
	else if (!rc)
		rc = err_set(
			e, -ENOENT, "no result file '%s' in %s (%zu files there)", what, dir, f.n);
	results_files_free(&f);
	return rc;
}
