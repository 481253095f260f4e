/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * remove.c - an image ceases to be: not while it has clones; superblock first, then everything
 * else.
 */
#include "volume/clone.h"
#include "volume/volume_impl.h"

#include "sys/container.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct remove_list {
	struct store_req req;
	char (*names)[STORE_NAME_MAX];
	uint32_t n, cap;
};

static int note_name(struct store_req *r, const char *name, uint64_t size)
{
	struct remove_list *l = container_of(r, struct remove_list, req);

	(void)size;
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 256;
		void *p = realloc(l->names, cap * sizeof(*l->names));

		if (!p)
			return -ENOMEM;
		l->names = p;
		l->cap = cap;
	}
	snprintf(l->names[l->n++], STORE_NAME_MAX, "%s", name);
	return 0;
}

int volume_remove_objects(struct store *s, const char *name, struct err *e)
{
	char prefix[STORE_NAME_MAX];
	struct remove_list l = {0};
	int64_t rc;

	snprintf(prefix, sizeof(prefix), "%s/", name);
	l.req = (struct store_req){.op = STORE_LIST, .name = prefix, .item = note_name, .err = e};
	rc = store_wait(s, &l.req);
	for (uint32_t i = 0; rc >= 0 && i < l.n; i++) {
		struct store_req del = {.op = STORE_DELETE, .name = l.names[i], .err = e};

		rc = store_wait(s, &del);
	}
	free(l.names);
	return rc < 0 ? err_wrap(e, (int)rc, "delete objects") : 0;
}

/* Locked: no clones from now on, the superblock goes, then the rest. */
static int remove_locked(
	struct store *s, const char *name, const struct superblock *sb, struct err *e)
{
	char super[STORE_NAME_MAX];
	struct store_req del = {.op = STORE_DELETE, .name = super, .err = e};
	int rc = clones_bar(s, name, sb ? sb->uuid : NULL, 0, e);

	/* A list that is damaged says nothing any more. */
	if (rc == -EBADMSG || rc == -EUCLEAN)
		rc = 0;
	snprintf(super, sizeof(super), "%s/super", name);
	if (rc == 0)
		rc = (int)store_wait(s, &del);
	if (rc >= 0)
		rc = volume_remove_objects(s, name, e);
	if (rc >= 0 && sb && sb->bases)
		clones_leave(s, &sb->base[sb->bases - 1], sb->uuid);
	return rc;
}

int volume_remove(struct store *s, struct pool *pool, const char *name, struct err *e)
{
	struct superblock *sb = calloc(1, sizeof(*sb));
	int rc = sb ? volume_read_superblock(s, name, sb, NULL, e) : -ENOMEM;
	bool locked = false, known = rc == 0;

	/* A damaged superblock is removed all the same: that is what rm is for. */
	if (rc == 0 || rc == -EBADMSG || rc == -EUCLEAN) {
		rc = volume_lock(s, name, e);
		locked = rc == 0;
	}
	if (rc == 0)
		rc = remove_locked(s, name, known ? sb : NULL, e);
	if (rc >= 0 && pool)
		rc = journal_wipe(pool, sb->uuid);
	if (locked)
		volume_unlock(s, name);
	free(sb);
	return rc < 0 ? err_wrap(e, rc, "remove image '%s'", name) : 0;
}
