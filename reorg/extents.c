/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reorg/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int extents_add(struct extents *x, uint64_t lba, uint64_t len)
{
	struct plan_extent *last = x->n ? &x->p[x->n - 1] : NULL;

	if (!len || lba + len < lba || (last && lba < last->lba + last->len))
		return -EINVAL;
	x->sectors += len;
	if (last && lba == last->lba + last->len) {
		last->len += len;
		return 0;
	}
	if (x->n == x->room) {
		size_t room = x->room ? 2 * x->room : 256;
		struct plan_extent *p = realloc(x->p, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		x->p = p;
		x->room = room;
	}
	x->p[x->n++] = (struct plan_extent){lba, len};
	return 0;
}

static int parse_line(const char *line, struct extents *x)
{
	uint64_t off, len;
	char rest;

	if (sscanf(line, " %" SCNu64 " %" SCNu64 " %c", &off, &len, &rest) != 2 ||
		(off | len) % 512 || off + len < off || (off + len) / 512 > x->size_sectors)
		return -EINVAL;
	return extents_add(x, off / 512, len / 512);
}

static int parse(FILE *f, const char *path, struct extents *x, struct err *e)
{
	char line[128], rest;
	uint64_t size;
	int rc = 0;

	for (unsigned nr = 1; !rc && fgets(line, sizeof(line), f); nr++) {
		if (line[0] == '#')
			continue;
		if (x->size_sectors)
			rc = parse_line(line, x);
		else if (sscanf(line, " %" SCNu64 " %c", &size, &rest) != 1 || !size || size % 512)
			rc = -EINVAL;
		else
			x->size_sectors = size / 512;
		if (rc == -EINVAL)
			err_set(e, rc,
				"%s:%u: expected the image's size, then lines of \"offset "
				"length\" in bytes, ascending",
				path, nr);
	}
	if (!rc && ferror(f))
		rc = err_set(e, -EIO, "%s: cannot be read", path);
	if (!rc && !x->size_sectors)
		rc = err_set(e, -EINVAL, "%s: empty", path);
	return rc;
}

int extents_load(const char *path, struct extents *x, struct err *e)
{
	FILE *f = fopen(path, "r");
	int rc = -errno;

	*x = (struct extents){0};
	if (!f)
		return err_wrap(e, err_set(e, rc, "%s", err_text(NULL, rc)), "%s", path);
	rc = parse(f, path, x, e);
	fclose(f);
	if (rc)
		extents_free(x);
	return rc;
}

void extents_free(struct extents *x)
{
	free(x->p);
	*x = (struct extents){0};
}
