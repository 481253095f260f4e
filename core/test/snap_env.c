/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/snap_env.h"

#include "test/test.h"
#include "volume/fsck.h"

#include <dirent.h>
#include <errno.h>

struct kept se_keep(const struct image_env *e, const char *name)
{
	struct kept k = {.size_bytes = e->size_bytes, .last_version = e->last_version};
	size_t n = e->size_bytes / 512 * sizeof(*k.version);

	snprintf(k.name, sizeof(k.name), "%s", name);
	k.version = malloc(n);
	memcpy(k.version, e->version, n);
	return k;
}

struct kept se_take(struct image_env *e, const char *name)
{
	IE_OK(e, lsvd_snapshot_create(e->img, name, e->why));
	return se_keep(e, name);
}

void se_restore(struct image_env *e, const struct kept *k)
{
	size_t n = k->size_bytes / 512 * sizeof(*k->version);

	free(e->version);
	e->version = malloc(n);
	memcpy(e->version, k->version, n);
	e->size_bytes = k->size_bytes;
}

const char *se_url(struct image_env *e, const char *name)
{
	static char url[4][400];
	static unsigned next;
	char *out = url[next++ % 4];

	snprintf(out, sizeof(url[0]), "%s/%s", e->store, name);
	return out;
}

void se_check(struct image_env *e, const char *name, const struct kept *k)
{
	struct image_env at = *e;

	at.version = k->version;
	at.size_bytes = k->size_bytes;
	IE_OK(e, lsvd_image_open(e->ctx, se_url(e, name), LSVD_OPEN_READONLY, &at.img, e->why));
	assert_int_equal(lsvd_image_size(at.img), k->size_bytes);
	model_check_all(&at);
	assert_int_equal(lsvd_pwrite(at.img, at.why, 512, 0), -EROFS);
	IE_OK(e, lsvd_image_close(at.img, e->why));
}

void se_check_kept(struct image_env *e, const struct kept *k)
{
	char name[160];

	snprintf(name, sizeof(name), "%s@%s", strrchr(e->url, '/') + 1, k->name);
	se_check(e, name, k);
}

void se_switch(struct image_env *e, const char *name)
{
	assert_null(e->img);
	snprintf(e->url, sizeof(e->url), "%s/%s", e->store, name);
}

void se_busy(struct image_env *e)
{
	ie_set(e, "checkpoint.interval", "1M");
	ie_set(e, "gc.start", "70");
	ie_set(e, "gc.stop", "80");
}

unsigned se_objects(struct image_env *e, const char *name)
{
	char path[300];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", e->root, name);
	d = opendir(path);
	assert_non_null(d);
	for (struct dirent *x; (x = readdir(d));)
		n += strlen(x->d_name) == 33;
	closedir(d);
	return n;
}

void se_fsck(struct image_env *e, const char *name)
{
	struct fsck_params p = {.name = name, .flags = FSCK_DATA};
	struct fsck_report r;
	struct err err = {""};
	struct loop *l;

	assert_int_equal(loop_uring_new(64, &l, &err), 0);
	assert_int_equal(store_open(l, e->store, NULL, 0, &p.store, &err), 0);
	if (fsck_run(&p, &r, &err) < 0)
		fail_msg("fsck: %s", err.msg);
	for (uint32_t i = 0; i < r.n; i++)
		if (r.findings[i].severity != FSCK_NOTE)
			fail_msg("fsck: %s: %s", r.findings[i].object, r.findings[i].what);
	fsck_report_fini(&r);
	store_close(p.store);
	loop_free(l);
}
