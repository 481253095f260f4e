/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_put.c - PUT and DELETE of the file store, and the spare files between them.
 *
 *   PUT     [rename a spare to t-N | create t-N] -> allocate -> write in pieces -> truncate
 *           -> (gather) -> fdatasync -> rename to the object's name, never replacing (I7) ->
 * (gather)
 *           -> fsync of the image's directory
 *   DELETE  [rename to s-N | unlink] -> (gather) -> fsync of the image's directory
 *
 * Each fsync makes the device flush its cache, and the journal on the same device waits: two
 * flushes per 8 MiB object were seen to raise its p99 fourfold.  So PUTs are hardened together:
 * when none is still being written, or HARDEN_NS after the first was.  Their fdatasyncs run at once
 * and share the filesystem's commit, and one fsync of the directory serves all that were renamed or
 * unlinked before it began.
 *
 * Writing a file for the first time pays for allocation and for turning unwritten extents into
 * written ones, and unlinking one for discarding its blocks; writing it again does not.  So a few
 * deleted files are kept as spares.  A deleted object's file may be written again only after its
 * new name is durable: a crash must not bring the object back with other bytes.  It is unlinked
 * instead while somebody reads it.
 *
 * Other processes may clean .spare at any time (they claim by rename, too): a PUT whose file went
 * away under it starts again, once, with a new file.
 */
#include "store/file_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HARDEN_NS = 60000000 };

static struct file_op *op_of(struct call *c)
{
	return container_of(c, struct file_op, call);
}

/* ---- making it durable, many at a time ---- */

static void sync_start(struct file_image *i);
static void put_harden(struct file_op *f);

static void push(struct file_op **list, struct file_op *f)
{
	f->next = *list;
	*list = f;
}

/* Harden what is written and sync what is renamed or unlinked: at once when no more is coming, else
 * HARDEN_NS after the first. */
static void kick(struct file_image *i)
{
	struct file_op *f = i->written;

	if (i->hardening)
		return;
	if (!i->written && !i->waiting) {
		loop_timer_cancel(i->fs->s.loop, &i->timer);
		i->due = false;
		return;
	}
	if (i->writing && !i->due) {
		if (!loop_timer_armed(&i->timer))
			loop_timer_set(
				i->fs->s.loop, &i->timer, loop_now(i->fs->s.loop) + HARDEN_NS);
		return;
	}
	loop_timer_cancel(i->fs->s.loop, &i->timer);
	i->due = false;
	i->written = NULL;
	for (struct file_op *w = f; w; w = w->next)
		i->hardening++;
	if (!f && !i->busy)
		sync_start(i);
	while (f) {
		struct file_op *next = f->next;

		put_harden(f);
		f = next;
	}
}

void file_image_due(struct loop_timer *t)
{
	struct file_image *i = container_of(t, struct file_image, timer);

	i->due = true;
	kick(i);
}

static void sync_finish(struct file_image *i, int res)
{
	struct file_op *f = i->serving;

	if (i->fd >= 0)
		close(i->fd);
	i->fd = -1;
	i->serving = NULL;
	i->busy = false;
	if (i->waiting && !i->hardening)
		sync_start(i);
	while (f) {
		struct file_op *next = f->next;

		f->call.then(&f->call, res);
		f = next;
	}
}

static void synced(struct call *c, int res)
{
	sync_finish(container_of(c, struct file_image, call), res);
}

static void sync_opened(struct call *c, int res)
{
	struct file_image *i = container_of(c, struct file_image, call);

	if (res < 0) {
		sync_finish(i, res);
		return;
	}
	i->fd = res;
	c->then = synced;
	file_call_fsync(i->fs, c, i->fd, false);
}

static void sync_start(struct file_image *i)
{
	i->busy = true;
	i->serving = i->waiting;
	i->waiting = NULL;
	i->call.then = sync_opened;
	file_call_open(i->fs, &i->call, i->path, O_RDONLY | O_DIRECTORY);
}

/* `then` gets the result of an fsync of the directory that begins after this. */
static void dir_sync(struct file_op *f, void (*then)(struct call *c, int res))
{
	f->call.then = then;
	push(&f->image->waiting, f);
}

/* One PUT of the batch got its name, or failed: the last one starts the fsync. */
static void hardened(struct file_image *i)
{
	i->hardening--;
	if (i->hardening)
		return;
	if (i->waiting && !i->busy)
		sync_start(i);
	kick(i);
}

static void count_writing(struct file_op *f)
{
	if (!f->counted)
		f->image->writing++;
	f->counted = true;
}

/* Its bytes are written, or it failed: others wait for this. */
static void uncount_writing(struct file_op *f)
{
	if (!f->counted)
		return;
	f->counted = false;
	f->image->writing--;
	kick(f->image);
}

/* ---- PUT ---- */

static void put_begin(struct file_op *f);

static void put_fail_unlinked(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	(void)res;
	file_done(f, f->status);
}

/* Give the file up; a spare that was being written goes, too: its disk may be the reason. */
static void put_fail(struct file_op *f, int64_t status)
{
	uncount_writing(f);
	/* A full disk: the next try finds what the spares held. */
	if (status == -ENOSPC)
		file_spares_drop(f->fs);
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->status = status;
	f->call.then = put_fail_unlinked;
	file_call_unlink(f->fs, &f->call, f->tmp);
}

static void put_lost_unlinked(struct call *c, int res)
{
	(void)res;
	put_begin(op_of(c));
}

/* A directory or the file went away: once more from the start, making the directories again. */
static void put_lost(struct file_op *f)
{
	f->image->prepared = false;
	if (f->retried) {
		put_fail(f, -EIO);
		return;
	}
	uncount_writing(f);
	f->retried = true;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->call.then = put_lost_unlinked;
	file_call_unlink(f->fs, &f->call, f->tmp);
}

static void put_dir_synced(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (!res)
		f->image->live++;
	file_done(f, res);
}

/* It has its name (0), or has not. */
static void put_named(struct file_op *f, int res)
{
	if (!res)
		dir_sync(f, put_dir_synced);
	else if (res == -ENOENT)
		put_lost(f);
	else
		put_fail(f, res);
	hardened(f->image);
}

static void put_tmp_unlinked(struct call *c, int res)
{
	(void)res; /* what is left over is cleaned up at the next open */
	put_named(op_of(c), 0);
}

static void put_linked(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res) {
		put_named(f, res);
		return;
	}
	c->then = put_tmp_unlinked;
	file_call_unlink(f->fs, c, f->tmp);
}

static void put_renamed(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res != -EINVAL) {
		put_named(f, res);
		return;
	}
	c->then = put_linked; /* a filesystem without RENAME_NOREPLACE */
	file_call_link(f->fs, c, f->tmp, f->path);
}

static void put_synced(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res) {
		put_named(f, res);
		return;
	}
	close(f->fd);
	f->fd = -1;
	c->then = put_renamed;
	file_call_rename(f->fs, c, f->tmp, f->path);
}

static void put_harden(struct file_op *f)
{
	f->call.then = put_synced;
	file_call_fsync(f->fs, &f->call, f->fd, true);
}

static void put_truncated(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res == -EINVAL) /* a kernel without the asynchronous call */
		res = ftruncate(f->fd, (off_t)f->r->len_bytes) ? -errno : 0;
	if (res) {
		put_fail(f, res);
		return;
	}
	push(&f->image->written, f);
	uncount_writing(f);
}

static void put_written(struct file_op *f)
{
	if (f->spare.size_bytes > f->r->len_bytes || f->write_bytes > f->r->len_bytes) {
		f->call.then = put_truncated;
		file_call_truncate(f->fs, &f->call, f->fd, f->r->len_bytes);
	} else {
		put_truncated(&f->call, 0);
	}
}

static void put_open(struct file_op *f);

static void piece_write(struct piece *p);

static void put_more(struct file_op *f)
{
	uint64_t bytes = file_pace_bytes(f);

	f->go = put_more;
	while (!f->status && f->queued_bytes < f->write_bytes && file_pace_enter(f)) {
		struct piece *p = store_pool_get(&f->fs->pieces);

		if (!p) {
			file_pace_leave(f);
			f->status = f->pieces ? 0 : -ENOMEM;
			break;
		}
		p->f = f;
		p->fd = f->fd;
		p->off_bytes = f->queued_bytes;
		f->queued_bytes += file_slice(&f->at, p, bytes);
		piece_write(p);
	}
	if (f->pieces || f->waits_pace)
		return;
	if (f->status == -EINVAL && file_coarser(f->fs, f->align))
		put_open(f);
	else if (f->status)
		put_fail(f, f->status);
	else
		put_written(f);
}

static void piece_written(struct call *c, int res)
{
	struct piece *p = container_of(c, struct piece, call);
	struct file_op *f = p->f;
	struct file_store *fs = f->fs;

	if (res == -EINTR || (res > 0 && file_piece_advance(p, (uint64_t)res))) {
		piece_write(p);
		return;
	}
	if (res <= 0 && !f->status)
		f->status = res ? res : -EIO;
	store_pool_put(&fs->pieces, p);
	file_pace_leave(f);
	if (!f->waits_pace)
		put_more(f);
	file_pace_wake(fs);
}

static void piece_write(struct piece *p)
{
	p->call.then = piece_written;
	file_call_writev(p->f->fs, p);
}

static void put_allocated(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res && res != -EOPNOTSUPP && res != -ENOSYS)
		put_fail(f, res);
	else
		put_more(f);
}

static void put_opened(struct call *c, int res)
{
	struct file_op *f = op_of(c);
	uint64_t have = f->spare.size_bytes, want = f->write_bytes;

	if (res == -ENOENT) {
		put_lost(f);
		return;
	}
	if (res == -EINVAL && file_coarser(f->fs, f->align)) {
		put_open(f);
		return;
	}
	if (res < 0) {
		put_fail(f, res);
		return;
	}
	f->fd = res;
	if (have >= want) {
		put_more(f);
		return;
	}
	c->then = put_allocated;
	file_call_fallocate(f->fs, c, f->fd, have, want - have);
}

/* Large requests go past the page cache, even if their end is not aligned: it is rounded up with
 * zeroes from a block of our own, and the file is cut afterwards.  Otherwise the fsync would write
 * all of it at once, and the journal's next record would wait behind it. */
static void round_end(struct file_op *f)
{
	const struct store_req *r = f->r;
	uint32_t align = file_align_but_end(f->fs, r);
	uint64_t rest = align ? r->len_bytes % align : 0;
	struct iovec *last;

	if (!rest || r->len_bytes < SPARE_MIN_BYTES || r->iovcnt >= OWN_IOVS ||
		r->iov[r->iovcnt - 1].iov_len < rest || posix_memalign(&f->end, align, align))
		return;
	memcpy(f->own, r->iov, (size_t)r->iovcnt * sizeof(f->own[0]));
	last = &f->own[r->iovcnt - 1];
	last->iov_len -= rest;
	memset(f->end, 0, align);
	memcpy(f->end, (char *)last->iov_base + last->iov_len, rest);
	last[1] = (struct iovec){.iov_base = f->end, .iov_len = align};
	f->at = (struct cursor){f->own, r->iovcnt + 1, 0};
	f->write_bytes = r->len_bytes - rest + align;
	f->align = align;
}

/* (Again) from the first byte, into f->tmp. */
static void put_open(struct file_op *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->status = 0;
	f->queued_bytes = 0;
	free(f->end);
	f->end = NULL;
	f->at = (struct cursor){f->r->iov, f->r->iovcnt, 0};
	f->write_bytes = f->r->len_bytes;
	f->align = file_align(f->fs, f->r);
	if (!f->align)
		round_end(f);
	f->call.then = put_opened;
	file_call_open(f->fs, &f->call, f->tmp, O_WRONLY | O_CREAT | (f->align ? O_DIRECT : 0));
}

static void put_claimed(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res) /* somebody else took it */
		f->spare = (struct spare){0};
	put_open(f);
}

/* The one to be preferred: as long as the object; else the longest that is shorter, to be extended;
 * else the shortest.  Cutting a file gives its end back to the filesystem, and where that tells the
 * disk at once (mounted with `discard`), everybody waits milliseconds for it. */
static bool fits_better(uint64_t a, uint64_t b, uint64_t want)
{
	if ((a <= want) != (b <= want))
		return a <= want;
	return a <= want ? a > b : a < b;
}

static struct spare take_spare(struct file_store *fs, uint64_t want)
{
	unsigned best = 0;
	struct spare s;

	for (unsigned i = 1; i < fs->spare_count; i++)
		if (fits_better(fs->spares[i].size_bytes, fs->spares[best].size_bytes, want))
			best = i;
	s = fs->spares[best];
	fs->spares[best] = fs->spares[--fs->spare_count];
	return s;
}

static void put_prepared(struct file_op *f)
{
	struct file_store *fs = f->fs;

	if (f->status) {
		file_done(f, f->status);
		return;
	}
	f->image->prepared = true;
	count_writing(f);
	f->spare = (struct spare){0};
	file_spare_path(fs, f->tmp, 't', fs->id, fs->next_id++);
	if (f->retried || !fs->spare_count || f->r->len_bytes < SPARE_MIN_BYTES) {
		put_open(f);
		return;
	}
	f->spare = take_spare(fs, f->r->len_bytes);
	file_spare_path(fs, f->from, 's', f->spare.id_hi, f->spare.id_lo);
	f->call.then = put_claimed;
	file_call_rename(fs, &f->call, f->from, f->tmp);
}

static void put_begin(struct file_op *f)
{
	f->status = 0;
	if (f->image->prepared)
		put_prepared(f);
	else
		file_job(f, file_work_prepare, put_prepared);
}

void file_put(struct file_op *f)
{
	put_begin(f);
}

/* ---- DELETE ---- */

static void delete_end(struct file_op *f)
{
	if (f->removed)
		f->image->prepared = false;
	file_done(f, f->status);
}

static void delete_dir_synced(struct call *c, int res)
{
	struct file_op *f = op_of(c);
	struct file_store *fs = f->fs;

	if (f->recycled)
		fs->spare_coming--;
	if (f->recycled && file_forget(fs, f->r->name))
		(void)unlink(f->tmp); /* a GET came in between and reads it */
	else if (f->recycled && !res)
		fs->spares[fs->spare_count++] = f->spare;
	if (!res)
		f->image->live--;
	f->status = res;
	if (res || f->image->live > 0)
		file_done(f, res);
	else /* perhaps that was the last one */
		file_job(f, file_work_remove_image, delete_end);
}

static void delete_unlinked(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (res == -ENOENT) {
		file_job(f, file_work_check_root, delete_end);
	} else if (res) {
		file_done(f, res);
	} else {
		dir_sync(f, delete_dir_synced);
		kick(f->image);
	}
}

static void delete_unlink(struct file_op *f)
{
	f->call.then = delete_unlinked;
	file_call_unlink(f->fs, &f->call, f->path);
}

static void delete_renamed(struct call *c, int res)
{
	struct file_op *f = op_of(c);

	if (!res) {
		dir_sync(f, delete_dir_synced);
		kick(f->image);
		return;
	}
	f->recycled = false;
	f->fs->spare_coming--;
	delete_unlink(f);
}

static void delete_looked(struct call *c, int res)
{
	struct file_op *f = op_of(c);
	struct file_store *fs = f->fs;
	bool read = file_forget(fs, f->r->name);

	if (res == -ENOENT) {
		f->status = 0;
		file_job(f, file_work_check_root, delete_end);
		return;
	}
	if (res) {
		file_done(f, res);
		return;
	}
	if (read || !f->image->prepared || !S_ISREG(f->stx.stx_mode) ||
		f->stx.stx_size < SPARE_MIN_BYTES || fs->spare_count + fs->spare_coming >= SPARES) {
		delete_unlink(f);
		return;
	}
	f->recycled = true;
	fs->spare_coming++;
	f->spare = (struct spare){fs->id, fs->next_id++, f->stx.stx_size};
	file_spare_path(fs, f->tmp, 's', f->spare.id_hi, f->spare.id_lo);
	c->then = delete_renamed;
	file_call_rename(fs, c, f->path, f->tmp);
}

void file_delete(struct file_op *f)
{
	f->call.then = delete_looked;
	file_call_statx(f->fs, &f->call, f->path, &f->stx);
}
