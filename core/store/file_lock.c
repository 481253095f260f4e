/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file_lock.c - the writer's lock of an image, and the end of its directory; on the helper thread
 * unless said.
 *
 * The lock is an OFD lock on IMAGE/.lock, which dies with its holder, whose text is in the file.  A
 * lock file that was unlinked between open and lock is nobody's lock: look again.  Stealing puts
 * another file in its place.  An image's directory goes with its last object, under its lock;
 * .spare goes with the last image.
 */
#include "store/file_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOLDER_TEXT = 256, HOLDER_WAITS = 10, HOLDER_WAIT_US = 10000, TRIES = 5 };

/* ---- whose lock it is ---- */

static void lock_path(const struct file_image *i, char *path)
{
	snprintf(path, FILE_PATH_MAX, "%s/.lock", i->path);
}

/* Is this open file still the one at `path`? */
static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static struct held_lock **find_held(struct file_store *fs, const char *image)
{
	struct held_lock **p = &fs->held;

	while (*p && strcmp((*p)->image, image))
		p = &(*p)->next;
	return p;
}

/* Has another file taken the place of the one that is locked?  Not when there is none: the image's
 * last object went, and its directory with it. */
static bool is_stolen(const struct file_image *i, const struct held_lock *k)
{
	char path[FILE_PATH_MAX];

	lock_path(i, path);
	return k && !access(path, F_OK) && !same_file(k->fd, path);
}

bool file_lock_held(const struct file_op *f)
{
	return *find_held(f->fs, f->image->name);
}

bool file_lock_stolen(const struct file_op *f)
{
	return is_stolen(f->image, *find_held(f->fs, f->image->name));
}

/* ---- taking ---- */

static int ofd_lock(int fd)
{
	struct flock k = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (!fcntl(fd, F_OFD_SETLK, &k))
		return 0;
	return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
}

/* The locked file's descriptor; -EBUSY with *fd_busy open for reading the holder's text. */
static int take_lock(const struct file_image *i, int *fd_busy)
{
	char path[FILE_PATH_MAX];
	int fd, rc;

	lock_path(i, path);
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
		if (fd < 0)
			return -errno;
		rc = ofd_lock(fd);
		if (!rc && same_file(fd, path))
			return fd;
		if (rc == -EBUSY && fd_busy) {
			*fd_busy = fd;
			return rc;
		}
		close(fd);
		if (rc)
			return rc;
	}
}

/* The holder writes its name right after it got the lock. */
static const char *holder_of(int fd, char text[HOLDER_TEXT])
{
	ssize_t n = 0;

	for (int i = 0; n <= 0 && i < HOLDER_WAITS; i++) {
		if (i)
			usleep(HOLDER_WAIT_US);
		n = pread(fd, text, HOLDER_TEXT - 1, 0);
	}
	text[n > 0 ? n : 0] = 0;
	return text[0] ? text : "another process";
}

static int say_busy(struct file_op *f, int fd)
{
	char text[HOLDER_TEXT];

	return err_set(f->r->err, -EBUSY, "file store '%s': image '%s' is in use by %s",
		f->fs->root, f->r->name, holder_of(fd, text));
}

static int write_holder(const struct store_req *r, int fd)
{
	if (ftruncate(fd, 0))
		return -errno;
	if (r->iovcnt && pwritev(fd, r->iov, r->iovcnt, 0) < 0)
		return -errno;
	return 0;
}

/* Another file takes the lock's name; the one that the holder has locked is an orphan then. */
static int steal_lock(struct file_op *f)
{
	char path[FILE_PATH_MAX];
	int fd, rc;

	lock_path(f->image, path);
	file_spare_path(f->fs, f->tmp, 't', f->fs->id, (uint64_t)(uintptr_t)f);
	fd = open(f->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	rc = ofd_lock(fd);
	if (!rc)
		rc = write_holder(f->r, fd);
	if (!rc && rename(f->tmp, path))
		rc = -errno;
	if (!rc)
		return fd;
	unlink(f->tmp);
	close(fd);
	return rc;
}

/* The directory may be removed by another holder's UNLOCK between making and locking. */
static int take_lock_here(struct file_op *f, int *fd_busy)
{
	int rc = -ENOENT;

	for (int i = 0; rc == -ENOENT && i < TRIES; i++) {
		rc = file_prepare(f);
		if (!rc)
			rc = take_lock(f->image, fd_busy);
	}
	return rc;
}

/* -EBUSY with the text of a holder that is another one. */
static int ask(struct file_op *f)
{
	struct flock k = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[FILE_PATH_MAX], text[HOLDER_TEXT];
	int rc = 0, fd;

	lock_path(f->image, path);
	if (file_lock_held(f) && !file_lock_stolen(f))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fcntl(fd, F_OFD_GETLK, &k))
		rc = -errno;
	else if (k.l_type != F_UNLCK)
		rc = err_set(f->r->err, -EBUSY, "%s", holder_of(fd, text));
	close(fd);
	return rc;
}

static int lock(struct file_op *f)
{
	struct held_lock *k = calloc(1, sizeof(*k));
	int busy = -1, rc;

	if (!k)
		return -ENOMEM;
	k->fd = take_lock_here(f, &busy);
	if (k->fd == -EBUSY && f->r->steal)
		k->fd = steal_lock(f);
	rc = k->fd < 0 ? k->fd : write_holder(f->r, k->fd);
	if (rc == -EBUSY)
		rc = say_busy(f, busy);
	if (rc == -ENOLCK || rc == -EOPNOTSUPP || rc == -EINVAL)
		rc = err_set(f->r->err, rc,
			"file store '%s': its filesystem has no locks (%s); mount it with locks",
			f->fs->root, strerror(-rc));
	if (busy >= 0)
		close(busy);
	if (rc) {
		if (k->fd >= 0)
			close(k->fd);
		free(k);
		return rc;
	}
	snprintf(k->image, sizeof(k->image), "%s", f->r->name);
	k->next = f->fs->held;
	f->fs->held = k;
	return 0;
}

void file_work_lock(struct file_op *f)
{
	f->status = f->r->ask ? ask(f) : lock(f);
}

/* ---- removing what is empty ---- */

/* Nothing in it but the lock file.  A directory that cannot be read is left alone. */
static bool is_empty(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool empty = d != NULL;

	while (empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
			!strcmp(e->d_name, ".lock");
	if (d)
		closedir(d);
	return empty;
}

static void clear_spares(const struct file_store *fs)
{
	char path[FILE_PATH_MAX];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/.spare", fs->root);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	(void)rmdir(path);
}

static bool has_images(const char *root)
{
	DIR *d = opendir(root);
	struct dirent *e;
	bool any = false;

	while (d && !any && (e = readdir(d)))
		any = store_image_name_ok(e->d_name, strlen(e->d_name)) && e->d_type != DT_REG;
	if (d)
		closedir(d);
	return any;
}

/* The caller holds the image's lock.  Nobody else can make objects here but a PUT without the lock,
 * and then rmdir() fails. */
static void remove_dirs(struct file_op *f)
{
	char path[FILE_PATH_MAX];

	if (!is_empty(f->image->path))
		return;
	lock_path(f->image, path);
	(void)unlink(path);
	if (rmdir(f->image->path))
		return;
	f->removed = true;
	(void)file_fsync_dir(f->fs->root);
	if (!has_images(f->fs->root))
		clear_spares(f->fs);
}

void file_work_remove_image(struct file_op *f)
{
	int fd;

	if (!is_empty(f->image->path))
		return;
	if (file_lock_held(f)) {
		if (!file_lock_stolen(f))
			remove_dirs(f);
		return;
	}
	fd = take_lock(f->image, NULL);
	if (fd < 0)
		return;
	remove_dirs(f);
	close(fd);
}

void file_work_unlock(struct file_op *f)
{
	struct held_lock **p = find_held(f->fs, f->r->name), *k = *p;

	if (!k)
		return;
	*p = k->next;
	if (!is_stolen(f->image, k)) {
		remove_dirs(f);
		if (!f->removed)
			(void)!ftruncate(k->fd, 0);
	}
	close(k->fd);
	free(k);
}

void file_unlock_all(struct file_store *fs)
{
	while (fs->held) {
		struct held_lock *next = fs->held->next;

		(void)!ftruncate(fs->held->fd, 0);
		close(fs->held->fd);
		free(fs->held);
		fs->held = next;
	}
}
