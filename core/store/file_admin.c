/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_admin.c - the rare and blocking work of the file store; on its helper thread unless said.
 *
 * SWAP is under flock() of the image's directory: compare the version, write a temporary file,
 * fsync, rename, fsync the directory.
 */
#include "store/file_impl.h"

#include "sys/crc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { LEFTOVER_S = 60, TRIES = 5, SWAP_WAITS = 2000, SWAP_WAIT_US = 1000 };

struct found {
	uint64_t size;
	char *name;
};

/* ---- the directory itself ---- */

static int stat_root(const struct file_store *fs, uint64_t *ino, uint64_t *btime_ns)
{
	struct statx stx;

	if (statx(AT_FDCWD, fs->root, 0, STATX_INO | STATX_BTIME | STATX_TYPE, &stx))
		return -errno;
	if (!S_ISDIR(stx.stx_mode))
		return -ENOTDIR;
	*ino = stx.stx_ino;
	*btime_ns = 0;
	if (stx.stx_mask & STATX_BTIME)
		*btime_ns = (uint64_t)stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec;
	return 0;
}

int file_identify_root(struct file_store *fs, struct err *e)
{
	int rc = stat_root(fs, &fs->root_ino, &fs->root_btime_ns);

	return rc ? err_set(e, rc, "file store '%s': %s", fs->root, strerror(-rc)) : 0;
}

int file_check_root(const struct file_store *fs, struct err *e)
{
	uint64_t ino, btime_ns;
	int rc = stat_root(fs, &ino, &btime_ns);

	if (rc)
		return err_set(e, -EIO,
			"file store '%s': the directory is gone (%s); bring it back", fs->root,
			strerror(-rc));
	if (ino != fs->root_ino || btime_ns != fs->root_btime_ns)
		return err_set(e, -EIO,
			"file store '%s': another directory has taken its place; is a disk not "
			"mounted?",
			fs->root);
	return 0;
}

void file_work_check_root(struct file_op *f)
{
	int rc = file_check_root(f->fs, f->r->err);

	if (rc)
		f->status = rc;
}

int file_fsync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

static int make_dir(const char *path)
{
	return mkdir(path, 0777) && errno != EEXIST ? -errno : 0;
}

static int make_spare_dir(const struct file_store *fs)
{
	char path[ROOT_MAX + 16];

	snprintf(path, sizeof(path), "%s/.spare", fs->root);
	return make_dir(path);
}

int file_prepare(struct file_op *f)
{
	struct file_store *fs = f->fs;
	int rc = file_check_root(fs, f->r->err);

	if (!rc)
		rc = make_spare_dir(fs);
	if (!rc)
		rc = make_dir(f->image->path);
	if (!rc)
		rc = file_fsync_dir(fs->root);
	return rc;
}

void file_work_prepare(struct file_op *f)
{
	f->status = file_prepare(f);
}

/* ---- SWAP ----
 *
 * Compared and renamed under a lock on the image's directory, which a stopped process may hold for
 * ever.  Who has stolen the image's lock from it goes on all the same: first it unlinks what others
 * are about to rename.  Those write their file before they look whether they still have the image's
 * lock, and look before they compare: so whose file was written after the theft sees the theft, and
 * whose file is older does not find it any more, or has renamed it before the thief compares.
 */

void file_tag(char *tag, const struct stat *st, uint32_t crc)
{
	snprintf(tag, STORE_TAG_MAX, "%08x-%llx-%llx-%llx", crc, (unsigned long long)st->st_size,
		(unsigned long long)st->st_ino,
		(unsigned long long)st->st_mtim.tv_sec * 1000000000 +
			(unsigned long long)st->st_mtim.tv_nsec);
}

static int read_tag(const char *path, char *tag)
{
	char *buf = NULL;
	struct stat st;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > SMALL_BYTES)
		rc = -EUCLEAN;
	buf = rc ? NULL : malloc((size_t)st.st_size + 1);
	if (!rc && !buf)
		rc = -ENOMEM;
	if (!rc && pread(fd, buf, (size_t)st.st_size, 0) != st.st_size)
		rc = -EIO;
	if (!rc)
		file_tag(tag, &st, crc32c(0, buf, (size_t)st.st_size));
	free(buf);
	close(fd);
	return rc;
}

/* The request's bytes, durable in f->tmp; tag: their version. */
static int write_tmp(struct file_op *f, char *tag)
{
	const struct store_req *r = f->r;
	uint32_t crc = 0;
	struct stat st;
	int rc = 0, fd;

	snprintf(f->tmp, sizeof(f->tmp), "%s/.spare/w-%s~%016llx-%llx", f->fs->root, f->image->name,
		(unsigned long long)f->fs->id, (unsigned long long)(uintptr_t)f);
	fd = open(f->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	for (int i = 0; !rc && i < r->iovcnt; i++) {
		ssize_t n = write(fd, r->iov[i].iov_base, r->iov[i].iov_len);

		if (n != (ssize_t)r->iov[i].iov_len)
			rc = n < 0 ? -errno : -ENOSPC;
		crc = crc32c(crc, r->iov[i].iov_base, r->iov[i].iov_len);
	}
	if (!rc && (fsync(fd) || fstat(fd, &st)))
		rc = -errno;
	if (!rc)
		file_tag(tag, &st, crc);
	close(fd);
	return rc;
}

static int compare(struct file_op *f)
{
	struct store_req *r = f->r;
	char now[STORE_TAG_MAX];
	int rc = read_tag(f->path, now);

	if (rc && rc != -ENOENT)
		return rc;
	if (!r->tag[0])
		return rc ? 0
			  : err_set(r->err, -EEXIST, "file store '%s': '%s' exists already",
				    f->fs->root, r->name);
	if (rc || strcmp(now, r->tag))
		return err_set(r->err, -ESTALE,
			"file store '%s': '%s' was changed by another writer", f->fs->root,
			r->name);
	return 0;
}

static int check_lock(struct file_op *f)
{
	if (!file_lock_stolen(f))
		return 0;
	return err_set(f->r->err, -ESTALE, "file store '%s': the lock of '%s' was stolen",
		f->fs->root, f->image->name);
}

static int replace(struct file_op *f, char *tag)
{
	int rc = make_spare_dir(f->fs);

	if (!rc)
		rc = write_tmp(f, tag);
	if (!rc)
		rc = check_lock(f);
	if (!rc)
		rc = compare(f);
	if (!rc && rename(f->tmp, f->path))
		rc = -errno;
	if (rc)
		unlink(f->tmp);
	return rc;
}

static int swap_locked(struct file_op *f)
{
	char tag[STORE_TAG_MAX];
	int rc = -ENOENT; /* another process may clean .spare at the wrong moment */

	for (int i = 0; rc == -ENOENT && i < TRIES; i++)
		rc = replace(f, tag);
	if (!rc)
		rc = file_fsync_dir(f->image->path);
	if (!rc)
		memcpy(f->r->tag, tag, sizeof(tag));
	return rc;
}

/* What others are about to put in the place of this image's swappable objects. */
static void unlink_others(const struct file_op *f)
{
	char path[FILE_PATH_MAX], prefix[80];
	struct dirent *e;
	DIR *d;

	snprintf(prefix, sizeof(prefix), "w-%s~", f->image->name);
	snprintf(path, sizeof(path), "%s/.spare", f->fs->root);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

static int wait_for_others(struct file_op *f, int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (i < SWAP_WAITS) {
			usleep(SWAP_WAIT_US);
			continue;
		}
		if (!file_lock_held(f))
			return err_set(f->r->err, -EAGAIN,
				"file store '%s': '%s' is being changed by a process that does not "
				"go on",
				f->fs->root, f->r->name);
		unlink_others(f);
		return 0;
	}
	return 0;
}

static int swap(struct file_op *f)
{
	int rc, fd;

	if (f->r->len_bytes > SMALL_BYTES)
		return err_set(f->r->err, -EFBIG,
			"file store '%s': '%s': a swappable object is at most %d KiB", f->fs->root,
			f->r->name, SMALL_BYTES >> 10);
	rc = f->r->tag[0] ? file_check_root(f->fs, f->r->err) : file_prepare(f);
	if (rc)
		return rc;
	fd = open(f->image->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	rc = wait_for_others(f, fd);
	if (!rc)
		rc = swap_locked(f);
	close(fd);
	return rc;
}

void file_work_swap(struct file_op *f)
{
	f->created = !f->r->tag[0];
	f->status = swap(f);
}

/* ---- spares ---- */

static bool adopt(struct file_store *fs, int dir, const char *name)
{
	unsigned long long hi, lo;
	struct stat st;

	if (fs->spare_count == SPARES || sscanf(name, "s-%llx-%llx", &hi, &lo) != 2 ||
		fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) ||
		st.st_size < SPARE_MIN_BYTES)
		return false;
	fs->spares[fs->spare_count++] = (struct spare){hi, lo, (uint64_t)st.st_size};
	return true;
}

/* A half-written file that nobody has written to for a while. */
static bool is_leftover(int dir, const char *name)
{
	struct stat st;

	return (name[0] != 't' && name[0] != 'w') || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
	       st.st_mtim.tv_sec + LEFTOVER_S < time(NULL);
}

/* Files of a dead process: half-written ones go, spares are used.  A living one's may be among
 * them: it notices, and uses a new file.  The fsync is what a dead DELETE may not have got to. */
void file_spares_adopt(struct file_store *fs)
{
	char path[FILE_PATH_MAX];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/.spare", fs->root);
	d = opendir(path);
	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && !adopt(fs, dirfd(d), e->d_name) &&
			is_leftover(dirfd(d), e->d_name))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (fsync(dirfd(d)))
		fs->spare_count = 0;
	closedir(d);
}

void file_spares_drop(struct file_store *fs)
{
	char path[FILE_PATH_MAX];

	while (fs->spare_count) {
		const struct spare *s = &fs->spares[--fs->spare_count];

		file_spare_path(fs, path, 's', s->id_hi, s->id_lo);
		(void)unlink(path);
	}
}

/* Our spares, and what a PUT could not clean up because the directory was away. */
void file_spares_trim(struct file_store *fs)
{
	char path[FILE_PATH_MAX], own[32];
	struct dirent *e;
	DIR *d;

	file_spares_drop(fs);
	snprintf(own, sizeof(own), "-%016llx-", (unsigned long long)fs->id);
	snprintf(path, sizeof(path), "%s/.spare", fs->root);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && !strncmp(e->d_name + 1, own, strlen(own)))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	(void)rmdir(path);
}

/* ---- LIST ---- */

struct listing {
	struct found *v;
	size_t count, room;
	const char *prefix;
};

static int list_add(struct listing *l, const char *image, const char *object, uint64_t size)
{
	struct found *p;
	char *name;

	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		p = realloc(l->v, l->room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		l->v = p;
	}
	if (asprintf(&name, "%s/%s", image, object) < 0)
		return -ENOMEM;
	l->v[l->count++] = (struct found){size, name};
	return 0;
}

static bool is_object(const struct listing *l, const char *image, const char *object)
{
	char name[STORE_NAME_MAX + 1];
	int n = snprintf(name, sizeof(name), "%s/%s", image, object);

	return n > 0 && (size_t)n < sizeof(name) && store_object_name_ok(name) &&
	       !strncmp(name, l->prefix, strlen(l->prefix));
}

static int list_image(struct listing *l, int root, const char *image)
{
	int fd = openat(root, image, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;

	if (!d)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	errno = 0;
	while (!rc && (e = readdir(d))) {
		if (!is_object(l, image, e->d_name))
			continue;
		if (!fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
			rc = list_add(l, image, e->d_name, (uint64_t)st.st_size);
		errno = 0;
	}
	if (!rc && errno)
		rc = -errno;
	closedir(d);
	return rc;
}

/* Can an object of this image begin with the prefix? */
static bool prefix_meets(const char *prefix, const char *image)
{
	size_t len = strcspn(prefix, "/");

	return !strncmp(prefix, image, len) && (!prefix[len] || !image[len]);
}

static int list_images(struct listing *l, DIR *d)
{
	struct dirent *e;
	int rc = 0;

	while (!rc && (e = readdir(d)))
		if (store_image_name_ok(e->d_name, strlen(e->d_name)) && e->d_type != DT_REG &&
			prefix_meets(l->prefix, e->d_name))
			rc = list_image(l, dirfd(d), e->d_name);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return strcmp(x->name, y->name);
}

void file_work_list(struct file_op *f)
{
	struct listing l = {.prefix = f->r->name};
	DIR *d;
	int rc = file_check_root(f->fs, f->r->err);

	if (!rc) {
		d = opendir(f->fs->root);
		rc = d ? list_images(&l, d) : -errno;
		if (d)
			closedir(d);
	}
	if (l.count)
		qsort(l.v, l.count, sizeof(l.v[0]), by_name);
	f->status = rc;
	f->found = l.v;
	f->found_count = l.count;
}

void file_list_tell(struct file_op *f)
{
	struct found *v = f->found;

	for (size_t i = 0; i < f->found_count; i++) {
		if (!f->status)
			f->status = f->r->item(f->r, v[i].name, v[i].size);
		free(v[i].name);
	}
	free(v);
}
