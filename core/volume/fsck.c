/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsck.c - the order of the check: superblock, names in the store, maps, snapshots, bases and
 * clones, objects, boot profile, then what of the names nobody needs, and at the end whether the
 * superblock is still the same.
 *
 * What cannot be read becomes a finding and the check goes on as far as it can: without a
 * superblock or an object table, every data object is checked by what its name says.
 */
#include "volume/fsck_impl.h"

#include "format/profile.h"
#include "sys/container.h"
#include "volume/volume_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTEMPTS = 4, GET_TRIES = 4, PROFILE_BYTES_MAX = 1 << 29 };

/* ---- the report ---- */

const char *fsck_severity_name(enum fsck_severity s)
{
	static const char *const names[] = {"note", "warning", "error"};

	return names[s];
}

const char *fsck_code_name(enum fsck_code c)
{
	static const char *const names[FSCK_CODES] = {"unclean", "pending", "missing", "unreadable",
		"size", "checksum", "structure", "version", "epoch", "table", "map", "live",
		"orphan", "stray", "snapshot", "base"};

	return names[c];
}

bool fsck_has_problems(const struct fsck_report *r)
{
	return r->errors + r->warnings > r->repaired;
}

void fsck_report_fini(struct fsck_report *r)
{
	free(r->findings);
	*r = (struct fsck_report){0};
}

int fsck_grow(void *array, uint32_t n, uint32_t *cap, size_t size)
{
	void **a = array, *p;
	uint32_t more = *cap ? 2 * *cap : 64;

	if (n < *cap)
		return 0;
	p = realloc(*a, more * size);
	if (!p)
		return -ENOMEM;
	*a = p;
	*cap = more;
	return 0;
}

/* What a snapshot has in common with the image is looked at for each. */
static bool told_already(
	const struct fsck_report *r, enum fsck_code c, const char *object, uint64_t offset_bytes)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (r->findings[i].code == c && r->findings[i].offset_bytes == offset_bytes &&
			!strcmp(r->findings[i].object, object))
			return true;
	return false;
}

void fsck_find(struct fsck *f, enum fsck_severity s, enum fsck_code c, const char *object,
	uint64_t offset_bytes, const char *fmt, ...)
{
	struct fsck_report *r = f->r;
	struct fsck_finding *x;
	va_list ap;

	if (f->view && told_already(r, c, object ? object : f->p->name, offset_bytes))
		return;
	*(s == FSCK_ERROR ? &r->errors : s == FSCK_WARNING ? &r->warnings : &r->notes) += 1;
	if (r->n == FSCK_FINDINGS_MAX || fsck_grow(&r->findings, r->n, &r->cap, sizeof(*x)) < 0) {
		r->left_out++;
		return;
	}
	x = &r->findings[r->n++];
	*x = (struct fsck_finding){.severity = s, .code = c, .offset_bytes = offset_bytes};
	snprintf(x->object, sizeof(x->object), "%s", object ? object : f->p->name);
	va_start(ap, fmt);
	vsnprintf(x->what, sizeof(x->what), fmt, ap);
	va_end(ap);
}

int fsck_refused(
	struct fsck *f, const char *object, uint64_t offset_bytes, int rc, const struct err *e)
{
	enum fsck_code c = rc == -ENOENT    ? FSCK_MISSING
			   : rc == -EBADMSG ? FSCK_CHECKSUM
			   : rc == -EUCLEAN ? FSCK_STRUCTURE
			   : rc == -EPROTO  ? FSCK_VERSION
					    : FSCK_UNREADABLE;

	if (rc == -ENOMEM || rc == -ECANCELED)
		return rc;
	fsck_find(f, FSCK_ERROR, c, object, offset_bytes, "%s",
		c == FSCK_MISSING ? "it is missing" : err_text(e, rc));
	return 0;
}

int fsck_progress(struct fsck *f, const char *phase, uint64_t done, uint64_t total)
{
	return f->p->progress && f->p->progress(f->p->arg, phase, done, total) ? -ECANCELED : 0;
}

/* ---- reading ---- */

int64_t fsck_get(struct fsck *f, const char *name, uint64_t off, void *buf, uint64_t len,
	uint64_t *size_bytes, struct err *e)
{
	int64_t n = -EIO;

	for (unsigned i = 0; i < GET_TRIES && n < 0 && n != -ENOENT && n != -ENOMEM; i++) {
		struct iovec iov = {.iov_base = buf, .iov_len = len};
		struct store_req r = {.op = STORE_GET,
			.name = name,
			.iov = &iov,
			.iovcnt = 1,
			.off_bytes = off,
			.len_bytes = len,
			.err = e};

		n = store_wait(f->p->store, &r);
		if (size_bytes)
			*size_bytes = r.size_bytes;
	}
	return n;
}

static bool parse_two(const char *s, uint64_t *a, uint64_t *b)
{
	if (strlen(s) != 33 || s[16] != '.' || strspn(s, "0123456789abcdef") != 16 ||
		strspn(s + 17, "0123456789abcdef") != 16)
		return false;
	*a = strtoull(s, NULL, 16);
	*b = strtoull(s + 17, NULL, 16);
	return true;
}

bool fsck_parse_object(const char *s, uint64_t *epoch, uint64_t *seq)
{
	return parse_two(s, epoch, seq);
}

bool fsck_parse_checkpoint(const char *s, uint64_t *epoch, uint64_t *number)
{
	return !strncmp(s, "ckpt.", 5) && parse_two(s + 5, epoch, number);
}

/* ---- superblock, profile, names ---- */

static int read_super(const struct fsck_params *p, struct superblock *sb, char *tag, struct err *e)
{
	int rc = -EIO;

	for (unsigned i = 0; i < GET_TRIES && volume_worth_retrying(rc) && rc != -ENOENT; i++) {
		if (e)
			e->msg[0] = 0;
		rc = volume_read_superblock(p->store, p->name, sb, tag, e);
	}
	return rc;
}

static int check_super(struct fsck *f, struct err *e)
{
	const struct superblock *sb = f->sb;
	char name[STORE_NAME_MAX], who[160];
	int rc = read_super(f->p, f->sb, f->tag, e);

	if (rc < 0 && rc != -EBADMSG && rc != -EUCLEAN && rc != -EPROTO)
		return rc;
	snprintf(name, sizeof(name), "%s/super", f->p->name);
	if (rc < 0)
		return fsck_refused(f, name, 0, rc, e);
	f->have_super = true;
	memcpy(f->r->uuid, sb->uuid, 16);
	f->r->size_bytes = sb->size_sectors * 512;
	f->r->epoch = sb->epoch[sb->epochs - 1].epoch;
	f->r->checkpoint = sb->checkpoint;
	f->r->clean = sb->clean;
	if (!sb->clean) {
		volume_writer_text(sb, who, sizeof(who));
		fsck_find(f, FSCK_NOTE, FSCK_UNCLEAN, name, 0,
			"not closed cleanly, or open for writing (%s): its newest writes may be in "
			"the journal of a pool",
			who);
	}
	if (sb->checkpoint && sb->checkpoint_epoch > f->r->epoch &&
		!superblock_base_of_checkpoint(sb, sb->checkpoint))
		fsck_find(f, FSCK_ERROR, FSCK_EPOCH, name, 0,
			"its checkpoint is of epoch %" PRIu64 ", its last epoch is %" PRIu64,
			sb->checkpoint_epoch, f->r->epoch);
	return 0;
}

/* A profile is advice: a damaged one costs time, not data. */
static void check_profile(struct fsck *f)
{
	uint64_t len = f->sb->profile_bytes, size = 0;
	struct profile_range *ranges = NULL;
	struct err e = {.msg = ""};
	char name[STORE_NAME_MAX];
	void *buf = len <= PROFILE_BYTES_MAX ? malloc(len) : NULL;
	uint32_t n;
	int64_t got;
	int rc;

	snprintf(name, sizeof(name), "%s/profile",
		f->sb->profile_base ? f->sb->base[f->sb->profile_base - 1].name : f->p->name);
	got = buf ? fsck_get(f, name, 0, buf, len, &size, &e) : -ENOMEM;
	if (got >= 0 && size != len) {
		fsck_find(f, FSCK_WARNING, FSCK_SIZE, name, 0,
			"the boot profile has %" PRIu64 " bytes, the superblock says %" PRIu64,
			size, len);
	} else {
		rc = got < 0 ? (int)got : profile_decode(buf, (size_t)got, &ranges, &n, &e);
		if (rc < 0)
			fsck_find(f, FSCK_WARNING,
				rc == -ENOENT	 ? FSCK_MISSING
				: rc == -EBADMSG ? FSCK_CHECKSUM
				: rc == -EUCLEAN ? FSCK_STRUCTURE
						 : FSCK_UNREADABLE,
				name, 0, "boot profile: %s", err_text(&e, rc));
	}
	free(ranges);
	free(buf);
}

struct listing {
	struct store_req req;
	struct fsck *f;
};

static int note_name(struct store_req *r, const char *name, uint64_t size)
{
	struct fsck *f = container_of(r, struct listing, req)->f;
	struct fsck_name *x;

	if (fsck_grow(&f->names, f->nnames, &f->names_cap, sizeof(*x)) < 0)
		return -ENOMEM;
	x = &f->names[f->nnames++];
	snprintf(x->name, sizeof(x->name), "%s", name);
	x->size_bytes = size;
	return 0;
}

static int list_names(struct fsck *f, struct err *e)
{
	char prefix[STORE_NAME_MAX];
	struct listing l = {.f = f};
	int64_t rc = -EIO;

	snprintf(prefix, sizeof(prefix), "%s/", f->p->name);
	for (unsigned i = 0; i < GET_TRIES && rc < 0 && rc != -ENOMEM; i++) {
		f->nnames = 0;
		l.req = (struct store_req){
			.op = STORE_LIST, .name = prefix, .item = note_name, .err = e};
		rc = store_wait(f->p->store, &l.req);
	}
	return rc < 0 ? err_wrap(e, (int)rc, "list objects") : 0;
}

/* ---- what nobody needs ---- */

enum needed { NEEDED, PENDING, UNKNOWN_EPOCH, ORPHAN, STRAY };

static enum needed judge_epoch(const struct fsck *f, uint64_t epoch, bool beyond)
{
	if (epoch > f->r->epoch)
		return UNKNOWN_EPOCH;
	return epoch == f->r->epoch && beyond && !f->r->clean ? PENDING : ORPHAN;
}

static enum needed judge(const struct fsck *f, const char *s, uint64_t *epoch)
{
	uint64_t n;
	uint32_t slot;

	*epoch = UINT64_MAX;
	if (!strcmp(s, "super") || !strcmp(s, "clones"))
		return NEEDED;
	if (!strcmp(s, "profile"))
		return f->sb->profile_bytes && !f->sb->profile_base ? NEEDED : ORPHAN;
	if (fsck_parse_checkpoint(s, epoch, &n))
		return fsck_has_checkpoint(f, *epoch, n)
			       ? NEEDED
			       : judge_epoch(f, *epoch, n > f->sb->checkpoint);
	if (!fsck_parse_object(s, epoch, &n))
		return STRAY;
	slot = objmap_find(f->objects, n);
	if ((slot != OBJMAP_NONE && objmap_get(f->objects, slot)->epoch == *epoch) ||
		deferred_has(&f->def, *epoch, n))
		return NEEDED;
	return judge_epoch(f, *epoch, n > f->applied_seq);
}

static void note_orphan(struct fsck *f, const struct fsck_name *x, uint64_t epoch)
{
	bool old = epoch < f->r->epoch;
	uint32_t n = f->r->n;

	f->r->orphans++;
	f->r->orphan_bytes += x->size_bytes;
	if (!f->r->clean && epoch != UINT64_MAX)
		fsck_find(f, FSCK_NOTE, FSCK_ORPHAN, x->name, 0,
			"nobody needs it (%" PRIu64 " bytes); the next opening for writing "
			"deletes it",
			x->size_bytes);
	else
		fsck_find(f, FSCK_WARNING, FSCK_ORPHAN, x->name, 0,
			"nobody needs it (%" PRIu64 " bytes)", x->size_bytes);
	if (f->r->n > n)
		f->r->findings[n].repairable = old;
}

static void note_unneeded(struct fsck *f, const struct fsck_name *x)
{
	uint64_t epoch;

	switch (judge(f, strchr(x->name, '/') + 1, &epoch)) {
	case NEEDED:
		return;
	case PENDING:
		fsck_find(f, FSCK_NOTE, FSCK_PENDING, x->name, 0,
			"of the last writer, and not part of the image (yet)");
		return;
	case UNKNOWN_EPOCH:
		fsck_find(f, FSCK_ERROR, FSCK_EPOCH, x->name, 0,
			"of epoch %" PRIu64 ", but the superblock's last is %" PRIu64
			": is it an old copy?",
			epoch, f->r->epoch);
		return;
	case ORPHAN:
		note_orphan(f, x, epoch);
		return;
	case STRAY:
		fsck_find(f, FSCK_WARNING, FSCK_STRAY, x->name, 0, "not a part of any image");
		return;
	}
}

/* I8: nothing that a state could need is deleted; so not on the word of a damaged image. */
static int repair(struct fsck *f, struct err *e)
{
	struct fsck_report *r = f->r;

	if (r->errors) {
		r->kept_orphans = r->orphans > 0;
		return 0;
	}
	for (uint32_t i = 0; i < r->n; i++) {
		struct fsck_finding *x = &r->findings[i];
		struct store_req del = {.op = STORE_DELETE, .name = x->object, .err = e};
		int64_t rc;

		if (!x->repairable)
			continue;
		rc = store_wait(f->p->store, &del);
		if (rc < 0)
			return err_wrap(e, (int)rc, "delete '%s'", x->object);
		x->repaired = true;
		r->repaired += x->severity != FSCK_NOTE;
	}
	return 0;
}

/* ---- the run ---- */

int fsck_new_maps(struct fsck *f)
{
	f->map = extmap_new();
	f->objects = objmap_new();
	return deferred_init(&f->def) == 0 && f->map && f->objects ? 0 : -ENOMEM;
}

void fsck_free(struct fsck *f)
{
	if (f->map)
		extmap_free(f->map);
	if (f->objects)
		objmap_free(f->objects);
	deferred_fini(&f->def);
	free(f->ckpt);
	free(f->dir);
	free(f->known);
	free(f->names);
	free(f->sb);
}

static int check_all(struct fsck *f, struct err *e)
{
	struct fsck_report *r = f->r;
	int rc = check_super(f, e);

	if (rc == 0)
		rc = list_names(f, e);
	if (rc == 0 && f->have_super)
		rc = fsck_load_checkpoints(f);
	if (rc == 0 && f->table_ok)
		rc = fsck_load_objects_after(f);
	if (rc == 0 && f->have_super)
		rc = fsck_check_snapshots(f);
	if (rc == 0 && f->have_super)
		rc = fsck_check_family(f);
	if (rc == 0)
		rc = fsck_scan_objects(f);
	if (rc < 0)
		return rc;
	if (f->have_super && f->sb->profile_bytes)
		check_profile(f);
	for (uint32_t i = 0; f->table_ok && i < f->nnames; i++)
		note_unneeded(f, &f->names[i]);
	if (f->table_ok) {
		r->objects = objmap_count(f->objects);
		r->extents = extmap_count(f->map);
		r->stored_bytes = objmap_sum(f->objects, 0).data_sectors * 512;
		r->live_bytes = extmap_sectors(f->map) * 512;
		r->object_seq = f->object_seq;
	}
	return 0;
}

/* 1: the image changed under us. */
static int changed(struct fsck *f, struct err *e)
{
	char tag[STORE_TAG_MAX] = "";
	int rc;

	if (!f->have_super)
		return 0;
	rc = read_super(f->p, f->sb, tag, e);
	if (rc == -ENOENT)
		return err_set(e, rc, "it was removed meanwhile");
	if (rc < 0 && volume_worth_retrying(rc))
		return 0; /* a store that fails: that is what was found */
	return rc < 0 || strcmp(tag, f->tag);
}

static int attempt(const struct fsck_params *p, struct fsck_report *r, struct err *e)
{
	struct fsck f = {.p = p, .r = r};
	int rc;

	f.sb = calloc(1, sizeof(*f.sb));
	rc = fsck_new_maps(&f) == 0 && f.sb ? check_all(&f, e) : -ENOMEM;
	if (rc == 0 && fsck_has_problems(r))
		rc = changed(&f, e);
	if (rc == 1)
		r->changing = true;
	if (rc >= 0 && p->flags & FSCK_REPAIR)
		rc = repair(&f, e);
	fsck_free(&f);
	return rc < 0 ? rc : 0;
}

int fsck_run(const struct fsck_params *p, struct fsck_report *r, struct err *e)
{
	bool lock = p->flags & FSCK_REPAIR;
	int rc = 0;

	*r = (struct fsck_report){0};
	if (lock) {
		struct superblock *sb = calloc(1, sizeof(*sb));

		/* Locking makes what it locks: so not without an image. */
		rc = sb ? read_super(p, sb, NULL, e) : -ENOMEM;
		free(sb);
		if (rc != -ENOENT && rc != -ENOMEM)
			rc = volume_lock(p->store, p->name, e);
	}
	for (unsigned i = 0; rc == 0 && i < ATTEMPTS && (i == 0 || r->changing); i++) {
		fsck_report_fini(r);
		rc = attempt(p, r, e);
	}
	if (lock && rc != -EBUSY && rc != -ENOENT)
		volume_unlock(p->store, p->name);
	return rc < 0 ? err_wrap(e, rc, "check image '%s'", p->name) : 0;
}
