/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.c - a store in a directory: object `vm1/x` is the file DIR/vm1/x.
 *
 *   DIR/vm1/x          an object: complete, durable, never changed (but for SWAP, which replaces
 * it) DIR/vm1/.lock      the writer lock: an OFD lock, the holder's name as its text; stealing puts
 *                        another file there
 *   DIR/.spare/t-...   an object being written
 *   DIR/.spare/s-...   deleted objects' files, to be written again (see file_put.c)
 *
 * Names that are not objects' names, and what is not a regular file two levels down, are not
 * listed.
 *
 * PUT, GET and DELETE are chains of io_uring calls on the loop; what blocks and is rare (SWAP,
 * LOCK, UNLOCK, LIST, making and removing directories) runs on one helper thread per store.  All
 * paths are absolute and looked up each time, so a directory that vanishes fails requests with
 * -EIO, and serves them again when it is back.  A missing file is reported as missing (-ENOENT)
 * only while DIR is still the directory that was opened: an unmounted disk must not look like an
 * empty store.
 *
 * Needs a real loop (loop_uring.h).
 */
#include "store/file_impl.h"

#include "sys/path.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- calls ---- */

/* liburing 2.3 does not know it yet; kernels before 6.9 answer -EINVAL. */
enum { OP_FTRUNCATE = 55 };

static void call_done(struct uring_op *op, int res)
{
	struct call *c = container_of(op, struct call, op);

	c->then(c, res);
}

static void arm(struct io_uring_sqe *sqe, struct call *c)
{
	c->op.done = call_done;
	loop_uring_arm(sqe, &c->op);
}

void file_call_open(struct file_store *fs, struct call *c, const char *path, int flags)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_openat(sqe, AT_FDCWD, path, flags | O_CLOEXEC, 0666);
	arm(sqe, c);
}

void file_call_rename(struct file_store *fs, struct call *c, const char *from, const char *to)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_renameat(sqe, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
	arm(sqe, c);
}

void file_call_unlink(struct file_store *fs, struct call *c, const char *path)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_unlinkat(sqe, AT_FDCWD, path, 0);
	arm(sqe, c);
}

void file_call_link(struct file_store *fs, struct call *c, const char *from, const char *to)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_linkat(sqe, AT_FDCWD, from, AT_FDCWD, to, 0);
	arm(sqe, c);
}

void file_call_fsync(struct file_store *fs, struct call *c, int fd, bool data_only)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_fsync(sqe, fd, data_only ? IORING_FSYNC_DATASYNC : 0);
	arm(sqe, c);
}

void file_call_fallocate(struct file_store *fs, struct call *c, int fd, uint64_t off, uint64_t len)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_fallocate(sqe, fd, 0, (off_t)off, (off_t)len);
	arm(sqe, c);
}

void file_call_truncate(struct file_store *fs, struct call *c, int fd, uint64_t len)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_rw(OP_FTRUNCATE, sqe, fd, NULL, 0, len);
	arm(sqe, c);
}

void file_call_writev(struct file_store *fs, struct piece *p)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_writev(sqe, p->fd, p->iov, (unsigned)p->count, p->off_bytes);
	arm(sqe, &p->call);
}

void file_call_readv(struct file_store *fs, struct piece *p)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_readv(sqe, p->fd, p->iov, (unsigned)p->count, p->off_bytes);
	arm(sqe, &p->call);
}

void file_call_statx(struct file_store *fs, struct call *c, const char *path, struct statx *stx)
{
	struct io_uring_sqe *sqe = loop_uring_sqe(fs->s.loop);

	io_uring_prep_statx(sqe, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_SIZE, stx);
	arm(sqe, c);
}

/* ---- slices ---- */

uint64_t file_slice(struct cursor *at, struct piece *p, uint64_t max_bytes)
{
	uint64_t sum = 0;

	p->count = 0;
	while (at->left && sum < max_bytes && p->count < SLICE_IOVS) {
		size_t n = at->iov->iov_len - at->off;

		if (n > max_bytes - sum)
			n = max_bytes - sum;
		if (n)
			p->iov[p->count++] = (struct iovec){(char *)at->iov->iov_base + at->off, n};
		at->off += n;
		sum += n;
		if (at->off == at->iov->iov_len) {
			at->iov++;
			at->left--;
			at->off = 0;
		}
	}
	return sum;
}

uint64_t file_piece_advance(struct piece *p, uint64_t n)
{
	uint64_t left = 0;
	int first = 0;

	p->off_bytes += n;
	while (first < p->count && n >= p->iov[first].iov_len)
		n -= p->iov[first++].iov_len;
	p->count -= first;
	memmove(p->iov, p->iov + first, (size_t)p->count * sizeof(p->iov[0]));
	if (p->count) {
		p->iov[0].iov_base = (char *)p->iov[0].iov_base + n;
		p->iov[0].iov_len -= n;
	}
	for (int i = 0; i < p->count; i++)
		left += p->iov[i].iov_len;
	return left;
}

static uintptr_t misalignment(const struct store_req *r, bool but_end)
{
	uintptr_t all = r->op == STORE_PUT ? 0 : r->off_bytes;

	for (int i = 0; i < r->iovcnt; i++) {
		all |= (uintptr_t)r->iov[i].iov_base;
		if (!but_end || i + 1 < r->iovcnt)
			all |= r->iov[i].iov_len;
	}
	return all;
}

uint32_t file_align(const struct file_store *fs, const struct store_req *r)
{
	return fs->align && !(misalignment(r, false) & (fs->align - 1)) ? fs->align : 0;
}

uint32_t file_align_but_end(const struct file_store *fs, const struct store_req *r)
{
	return fs->align && !(misalignment(r, true) & (fs->align - 1)) ? fs->align : 0;
}

bool file_coarser(struct file_store *fs, uint32_t align)
{
	if (align && fs->align == align)
		fs->align = align < 4096 ? 4096 : 0;
	return align != 0;
}

void file_spare_path(const struct file_store *fs, char *path, char kind, uint64_t hi, uint64_t lo)
{
	snprintf(path, FILE_PATH_MAX, "%s/.spare/%c-%016llx-%llx", fs->root, kind,
		(unsigned long long)hi, (unsigned long long)lo);
}

/* ---- requests ---- */

static const char *verb(enum store_op op)
{
	static const char *const verbs[STORE_OPS] = {
		"write", "read", "delete", "list", "replace", "lock", "unlock"};

	return verbs[op];
}

/* Errors that mean the same to a caller are made the same. */
static int64_t plain(int64_t status)
{
	switch (status) {
	case -EDQUOT:
		return -ENOSPC;
	case -ENOTDIR:
	case -ELOOP:
	case -EFAULT:
		return -EIO;
	default:
		return status;
	}
}

void file_done(struct file_op *f, int64_t status)
{
	struct store_req *r = f->r;
	struct file_store *fs = f->fs;

	if (status < 0) {
		if (r->err && !r->err->msg[0])
			err_set(r->err, (int)status, "file store '%s': %s '%s': %s", fs->root,
				verb(r->op), r->name, strerror((int)-status));
		status = plain(status);
	}
	free(f->end);
	f->end = NULL;
	store_pool_put(&fs->ops, f);
	store_complete(r, status);
}

static void after_work(struct file_op *f)
{
	file_done(f, f->status);
}

static void after_swap(struct file_op *f)
{
	file_forget(f->fs, f->r->name);
	if (!f->status && f->created)
		f->image->live++;
	file_done(f, f->status);
}

static void after_unlock(struct file_op *f)
{
	if (f->removed)
		f->image->prepared = false;
	file_done(f, f->status);
}

static void after_list(struct file_op *f)
{
	file_list_tell(f);
	file_done(f, f->status);
}

static void job_done(struct loop_task *t)
{
	struct file_op *f = container_of(t, struct file_op, task);

	f->after(f);
}

static void *helper(void *arg)
{
	struct file_store *fs = arg;

	pthread_mutex_lock(&fs->mutex);
	while (!fs->thread_stop) {
		struct file_op *f = fs->jobs;

		if (!f) {
			pthread_cond_wait(&fs->cond, &fs->mutex);
			continue;
		}
		fs->jobs = f->next;
		if (!fs->jobs)
			fs->jobs_end = &fs->jobs;
		pthread_mutex_unlock(&fs->mutex);
		f->work(f);
		loop_post(fs->s.loop, &f->task);
		pthread_mutex_lock(&fs->mutex);
	}
	pthread_mutex_unlock(&fs->mutex);
	return NULL;
}

void file_job(struct file_op *f, void (*work)(struct file_op *f), void (*after)(struct file_op *f))
{
	struct file_store *fs = f->fs;

	f->work = work;
	f->after = after;
	f->next = NULL;
	f->task = (struct loop_task){.run = job_done};
	if (!fs->thread_runs && pthread_create(&fs->thread, NULL, helper, fs)) {
		f->status = -EAGAIN;
		loop_defer(fs->s.loop, &f->task);
		return;
	}
	fs->thread_runs = true;
	pthread_mutex_lock(&fs->mutex);
	*fs->jobs_end = f;
	fs->jobs_end = &f->next;
	pthread_cond_signal(&fs->cond);
	pthread_mutex_unlock(&fs->mutex);
}

static void dispatch(struct file_op *f)
{
	switch (f->r->op) {
	case STORE_PUT:
		file_put(f);
		break;
	case STORE_GET:
		file_get(f);
		break;
	case STORE_DELETE:
		file_delete(f);
		break;
	case STORE_SWAP:
		file_job(f, file_work_swap, after_swap);
		break;
	case STORE_LOCK:
		file_job(f, file_work_lock, after_work);
		break;
	case STORE_UNLOCK:
		file_job(f, file_work_unlock, after_unlock);
		break;
	default:
		file_job(f, file_work_list, after_list);
	}
}

struct file_image *file_image(struct file_store *fs, const char *object_name)
{
	size_t len = strcspn(object_name, "/");
	struct file_image *i;

	for (i = fs->images; i; i = i->next)
		if (!strncmp(i->name, object_name, len) && !i->name[len])
			return i;
	i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	memcpy(i->name, object_name, len);
	snprintf(i->path, sizeof(i->path), "%s/%s", fs->root, i->name);
	i->fs = fs;
	i->fd = -1;
	i->timer.fire = file_image_due;
	i->next = fs->images;
	fs->images = i;
	return i;
}

static void file_submit(struct store *s, struct store_req *r)
{
	struct file_store *fs = container_of(s, struct file_store, s);
	struct file_op *f = store_pool_get(&fs->ops);
	struct file_image *image = r->op == STORE_LIST ? NULL : file_image(fs, r->name);

	if (!f || (!image && r->op != STORE_LIST)) {
		if (f)
			store_pool_put(&fs->ops, f);
		store_complete_later(r, -EAGAIN);
		return;
	}
	memset(f, 0, offsetof(struct file_op, path));
	f->r = r;
	f->fs = fs;
	f->image = image;
	f->fd = -1;
	f->at = (struct cursor){r->iov, r->iovcnt, 0};
	if (r->err)
		r->err->msg[0] = 0;
	snprintf(f->path, sizeof(f->path), "%s/%s", fs->root, r->name);
	dispatch(f);
}

/* ---- open and close ---- */

static void file_free(struct file_store *fs)
{
	if (fs->s.loop)
		loop_timer_cancel(fs->s.loop, &fs->pace_timer);
	while (fs->images) {
		struct file_image *next = fs->images->next;

		free(fs->images);
		fs->images = next;
	}
	store_pool_fini(&fs->ops);
	store_pool_fini(&fs->pieces);
	store_pool_fini(&fs->files);
	pthread_mutex_destroy(&fs->mutex);
	pthread_cond_destroy(&fs->cond);
	free(fs);
}

static void file_close(struct store *s)
{
	struct file_store *fs = container_of(s, struct file_store, s);

	if (fs->thread_runs) {
		pthread_mutex_lock(&fs->mutex);
		assert(!fs->jobs);
		fs->thread_stop = true;
		pthread_cond_signal(&fs->cond);
		pthread_mutex_unlock(&fs->mutex);
		pthread_join(fs->thread, NULL);
	}
	file_unlock_all(fs);
	file_forget_all(fs);
	file_spares_trim(fs);
	file_free(fs);
}

static const struct store_ops file_ops = {.submit = file_submit, .close = file_close};

/* Make DIR when asked to, and find out its absolute path. */
static int find_root(const char *dir, unsigned flags, char *root, struct err *e)
{
	char real[PATH_MAX];
	struct stat st;

	if (!dir[0])
		return err_set(e, -EINVAL, "file store: name a directory, as in file:/srv/vols");
	if (flags & STORE_CREATE) {
		int rc = path_make_parents(dir);

		if (rc == 0 && mkdir(dir, 0777) && errno != EEXIST)
			rc = -errno;
		if (rc < 0)
			return err_set(e, rc, "file store '%s': create the directory: %s", dir,
				strerror(-rc));
	}
	if (!realpath(dir, real) || stat(real, &st)) {
		if (errno == ENOENT)
			return err_set(e, -ENOENT,
				"file store '%s': the directory does not exist; create it with "
				"mkdir",
				dir);
		return err_set(e, -errno, "file store '%s': %s", dir, strerror(errno));
	}
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "file store '%s': is not a directory", dir);
	if (access(real, R_OK | X_OK))
		return err_set(e, -errno, "file store '%s': %s", dir, strerror(errno));
	if (strlen(real) >= ROOT_MAX)
		return err_set(
			e, -ENAMETOOLONG, "file store '%.200s...': the path is too long", real);
	memcpy(root, real, strlen(real) + 1);
	return 0;
}

int store_file_open(
	struct loop *l, const char *dir, unsigned flags, struct store **out, struct err *e)
{
	struct file_store *fs;
	char url[sizeof(fs->s.url)];
	int rc;

	if (loop_is_sim(l))
		return err_set(e, -EINVAL,
			"file store '%s': files need a real loop, not a simulated one", dir);
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return err_set(e, -ENOMEM, "file store '%s': out of memory", dir);
	pthread_mutex_init(&fs->mutex, NULL);
	pthread_cond_init(&fs->cond, NULL);
	fs->jobs_end = &fs->jobs;
	fs->paced_end = &fs->paced;
	fs->pace_timer.fire = file_pace_rested;
	fs->ops.item_bytes = sizeof(struct file_op);
	fs->pieces.item_bytes = sizeof(struct piece);
	fs->files.item_bytes = sizeof(struct open_file);
	fs->align = 512;
	fs->id = loop_random(l);
	rc = find_root(dir, flags, fs->root, e);
	if (!rc)
		rc = file_identify_root(fs, e);
	if (rc) {
		file_free(fs);
		return rc;
	}
	snprintf(url, sizeof(url), "file:%s", dir);
	store_init(&fs->s, l, &file_ops, "file", url);
	fs->s.put_multiple = PUT_MULTIPLE;
	file_spares_adopt(fs);
	*out = &fs->s;
	return 0;
}
