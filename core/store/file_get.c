/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_get.c - GET of the file store: a table of open files, and reads from them.
 *
 * A ranged GET of an object whose file is open is one preadv.  Files are opened with O_DIRECT for
 * requests that are aligned for it, and without for the rest, so one object may be open twice.
 * Small files are opened for each GET: they may be superblocks, which another process can replace.
 *
 * The least recently used file without readers is closed when there are more than OPEN_FILES.
 */
#include "store/file_impl.h"

#include "sys/crc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the table ---- */

static struct open_file **bucket(struct file_store *fs, const char *name)
{
	uint32_t h = crc32c(0, name, strlen(name));

	return &fs->table[h % OPEN_FILES];
}

static struct open_file *find(struct file_store *fs, const char *name, bool direct)
{
	struct open_file *o = *bucket(fs, name);

	while (o && (o->direct != direct || strcmp(o->name, name)))
		o = o->hash_next;
	return o;
}

static void lru_add(struct file_store *fs, struct open_file *o)
{
	o->newer = NULL;
	o->older = fs->newest;
	*(fs->newest ? &fs->newest->newer : &fs->oldest) = o;
	fs->newest = o;
}

static void lru_del(struct file_store *fs, struct open_file *o)
{
	*(o->newer ? &o->newer->older : &fs->newest) = o->older;
	*(o->older ? &o->older->newer : &fs->oldest) = o->newer;
}

static void maybe_close(struct open_file *o)
{
	if (!o->dead || o->readers)
		return;
	if (o->fd >= 0)
		close(o->fd);
	store_pool_put(&o->fs->files, o);
}

/* Out of the table: nobody finds it any more; closed with its last reader. */
static void bury(struct open_file *o)
{
	struct file_store *fs = o->fs;
	struct open_file **p = bucket(fs, o->name);

	if (o->dead)
		return;
	while (*p != o)
		p = &(*p)->hash_next;
	*p = o->hash_next;
	lru_del(fs, o);
	fs->file_count--;
	o->dead = true;
	maybe_close(o);
}

static void make_room(struct file_store *fs)
{
	struct open_file *o = fs->oldest;

	while (o && fs->file_count >= OPEN_FILES) {
		struct open_file *newer = o->newer;

		if (!o->readers)
			bury(o);
		o = newer;
	}
}

static struct open_file *add(struct file_store *fs, const struct file_op *f)
{
	struct open_file *o, **p = bucket(fs, f->r->name);

	make_room(fs);
	o = store_pool_get(&fs->files);
	if (!o)
		return NULL;
	memset(o, 0, offsetof(struct open_file, name));
	o->fs = fs;
	o->fd = -1;
	o->direct = f->align != 0;
	snprintf(o->name, sizeof(o->name), "%s", f->r->name);
	snprintf(o->path, sizeof(o->path), "%s", f->path);
	o->hash_next = *p;
	*p = o;
	lru_add(fs, o);
	fs->file_count++;
	return o;
}

bool file_forget(struct file_store *fs, const char *name)
{
	bool read = false;

	for (int direct = 0; direct < 2; direct++) {
		struct open_file *o = find(fs, name, direct);

		if (o) {
			read |= o->readers > 0;
			bury(o);
		}
	}
	return read;
}

void file_forget_all(struct file_store *fs)
{
	while (fs->newest)
		bury(fs->newest);
}

/* ---- reading ---- */

static void leave(struct file_op *f)
{
	struct open_file *o = f->file;

	f->file = NULL;
	o->readers--;
	maybe_close(o);
}

static uint32_t iov_crc(const struct store_req *r, uint64_t len)
{
	uint32_t crc = 0;

	for (int i = 0; i < r->iovcnt && len; i++) {
		uint64_t n = r->iov[i].iov_len < len ? r->iov[i].iov_len : len;

		crc = crc32c(crc, r->iov[i].iov_base, n);
		len -= n;
	}
	return crc;
}

/* The version that SWAP compares includes the bytes, so only a GET of the whole object knows it. */
static void get_done(struct file_op *f)
{
	struct store_req *r = f->r;
	const struct stat *st = &f->file->st;
	bool whole = r->off_bytes == 0 && f->moved_bytes == (uint64_t)st->st_size;

	r->size_bytes = (uint64_t)st->st_size;
	file_tag(r->tag, st, whole && st->st_size <= SMALL_BYTES ? iov_crc(r, f->moved_bytes) : 0);
	leave(f);
	file_done(f, (int64_t)f->moved_bytes);
}

static bool at_end(const struct file_op *f)
{
	return f->moved_bytes == f->r->len_bytes || f->moved_bytes < f->queued_bytes ||
	       f->r->off_bytes + f->moved_bytes >= (uint64_t)f->file->st.st_size;
}

static void get_more(struct file_op *f, struct piece *p);

static void get_on(struct file_op *f)
{
	get_more(f, f->parked);
}

static void get_more(struct file_op *f, struct piece *p)
{
	struct store_req *r = f->r;
	uint64_t left = r->len_bytes - f->queued_bytes;

	if (at_end(f)) {
		store_pool_put(&f->fs->pieces, p);
		get_done(f);
		return;
	}
	f->parked = p;
	f->go = get_on;
	if (!file_pace_enter(f))
		return;
	if (r->pace && left > file_pace_bytes(f))
		left = file_pace_bytes(f);
	p->off_bytes = r->off_bytes + f->queued_bytes;
	f->queued_bytes += file_slice(&f->at, p, left);
	file_call_readv(f->fs, p);
}

static void get_fail(struct file_op *f, int res)
{
	uint32_t align = f->align;

	leave(f);
	if (res == -EINVAL && file_coarser(f->fs, align))
		file_get(f);
	else
		file_done(f, res);
}

static void get_read(struct call *c, int res)
{
	struct piece *p = container_of(c, struct piece, call);
	struct file_op *f = p->f;
	struct file_store *fs = f->fs;
	bool end;

	if (res == -EINTR) {
		file_call_readv(fs, p);
		return;
	}
	if (res >= 0) {
		f->moved_bytes += (uint64_t)res;
		end = !res || f->r->off_bytes + f->moved_bytes >= (uint64_t)f->file->st.st_size;
		if (!end && file_piece_advance(p, (uint64_t)res)) {
			file_call_readv(fs, p);
			return;
		}
	}
	file_pace_leave(f);
	if (res < 0) {
		store_pool_put(&fs->pieces, p);
		get_fail(f, res);
	} else {
		get_more(f, p);
	}
	file_pace_wake(fs);
}

static void refuse(struct file_op *f)
{
	store_pool_put(&f->fs->ops, f);
	store_complete_later(f->r, -EAGAIN);
}

static void get_nothing(struct loop_task *t)
{
	get_done(container_of(t, struct file_op, task));
}

/* Also called from inside submit: so it never completes by itself. */
static void get_start(struct file_op *f)
{
	struct piece *p;

	if (at_end(f)) {
		f->task = (struct loop_task){.run = get_nothing};
		loop_defer(f->fs->s.loop, &f->task);
		return;
	}
	p = store_pool_get(&f->fs->pieces);
	if (!p) {
		leave(f);
		refuse(f);
		return;
	}
	p->f = f;
	p->fd = f->file->fd;
	p->call.then = get_read;
	get_more(f, p);
}

/* ---- opening ---- */

static void get_missing(struct file_op *f)
{
	file_done(f, f->status);
}

static void get_unopened(struct file_op *f, int res)
{
	if (res == -ENOENT) { /* really missing, or is the whole store gone? */
		leave(f);
		f->status = -ENOENT;
		file_job(f, file_work_check_root, get_missing);
	} else {
		get_fail(f, res);
	}
}

/* Everybody who waited for the file goes on, or fails with it. */
static void serve_waiting(struct open_file *o, int res)
{
	struct file_op *f = o->waiting;

	o->waiting = NULL;
	o->ready = true;
	if (res < 0 || o->st.st_size <= SMALL_BYTES)
		bury(o);
	while (f) {
		struct file_op *next = f->next;

		if (res < 0)
			get_unopened(f, res);
		else
			get_start(f);
		f = next;
	}
}

static void opened(struct call *c, int res)
{
	struct open_file *o = container_of(c, struct open_file, call);

	if (res >= 0) {
		o->fd = res;
		res = fstat(o->fd, &o->st) ? -errno : 0;
		if (!res && !S_ISREG(o->st.st_mode))
			res = -EUCLEAN;
	}
	serve_waiting(o, res);
}

void file_get(struct file_op *f)
{
	struct file_store *fs = f->fs;
	struct open_file *o;

	f->moved_bytes = f->queued_bytes = 0;
	f->at = (struct cursor){f->r->iov, f->r->iovcnt, 0};
	f->align = file_align(fs, f->r);
	o = find(fs, f->r->name, f->align != 0);
	if (o && o->ready) {
		lru_del(fs, o);
		lru_add(fs, o);
		o->readers++;
		f->file = o;
		get_start(f);
		return;
	}
	if (!o) {
		o = add(fs, f);
		if (!o) {
			refuse(f);
			return;
		}
		o->call.then = opened;
		file_call_open(
			fs, &o->call, o->path, O_RDONLY | O_NOFOLLOW | (o->direct ? O_DIRECT : 0));
	}
	o->readers++;
	f->file = o;
	f->next = o->waiting;
	o->waiting = f;
}
