/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev_file.c - opens, locks, measures and creates the file behind a file: URL.  Blocking, no loop.
 *
 * Creation reserves all space first (a full disk says so at once), then writes zeroes with large
 * O_DIRECT writes, so that later writes neither allocate nor convert extents, then syncs the file
 * and its directory.  When any of it fails the file is removed again.  The lock is taken before
 * anything is looked at, so of two creators one gets -EBUSY.
 */
#include "sys/bdev_impl.h"
#include "sys/path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* BUSY_NS_MAX: half a second in all. */
enum { FILL_BYTES = 8 << 20, SECTOR_MIN = 512, BUSY_NS_MAX = 512000000 };

static int fail(struct err *e, int code, const char *path, const char *what)
{
	return err_set(e, code, "%s '%s': %s", what, path, strerror(-code));
}

/* ---- opening ---- */

static int open_direct(const char *path, int flags, struct err *e)
{
	int fd = open(path, flags | O_DIRECT | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (errno == EINVAL)
		return err_set(e, -EINVAL,
			"'%s': its file system does not support O_DIRECT; put it on ext4, xfs, "
			"btrfs or a partition",
			path);
	if (errno == ENOENT && !(flags & O_CREAT))
		return err_set(e, -ENOENT, "'%s' does not exist", path);
	if (errno == EBUSY)
		return err_set(e, -EBUSY, "'%s' is in use (mounted, or opened by another)", path);
	return fail(e, -errno, path, "open");
}

static int lock(int fd, const char *path, bool readonly, struct err *e)
{
	struct flock fl = {.l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY, "'%s' is in use by another process (see: fuser -v '%s')",
			path, path);
	return fail(e, -errno, path, "lock");
}

/* ---- measuring ---- */

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = SECTOR_MIN;

	while (p < n)
		p *= 2;
	return p;
}

/* What O_DIRECT asks of offsets, lengths and memory; 512 where the kernel does not tell. */
static int file_sector(int fd, const char *path, uint32_t *out, struct err *e)
{
	struct statx sx = {0};
	uint32_t n = 0;

	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		(sx.stx_mask & STATX_DIOALIGN)) {
		if (!sx.stx_dio_offset_align)
			return err_set(e, -EINVAL, "'%s': no O_DIRECT on this file", path);
		n = sx.stx_dio_offset_align > sx.stx_dio_mem_align ? sx.stx_dio_offset_align
								   : sx.stx_dio_mem_align;
	}
	*out = power_of_two(n);
	if (*out > BDEV_ROUND)
		return err_set(e, -EINVAL,
			"'%s': wants I/O in units of %" PRIu32 " bytes, at most %d work here", path,
			*out, BDEV_ROUND);
	return 0;
}

static int measure_disk(int fd, const char *path, struct bdev_file *f, struct err *e)
{
	int sector = 0;

	if (ioctl(fd, BLKGETSIZE64, &f->size_bytes) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0)
		return fail(e, -errno, path, "ask the size of");
	f->sector_bytes = power_of_two((uint32_t)sector);
	return 0;
}

static bool same_type(const struct statx *sx, mode_t type)
{
	return (sx->stx_mode & S_IFMT) == type;
}

static int stat_fd(int fd, const char *path, struct statx *sx, struct err *e)
{
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, sx) < 0)
		return fail(e, -errno, path, "stat");
	if (!same_type(sx, S_IFREG) && !same_type(sx, S_IFBLK))
		return err_set(e, -EINVAL, "'%s' is neither a file nor a block device", path);
	return 0;
}

/* ---- creating ---- */

static int sync_parent(const char *path)
{
	char dir[PATH_MAX];
	int fd, rc = 0;

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int write_zeroes(int fd, const char *zeroes, uint64_t size)
{
	for (uint64_t at = 0; at < size;) {
		uint64_t left = size - at;
		ssize_t n = pwrite(fd, zeroes, left < FILL_BYTES ? left : FILL_BYTES, (off_t)at);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			at += (uint64_t)n;
	}
	return 0;
}

static int reserve(int fd, uint64_t size)
{
	if (fallocate(fd, 0, 0, (off_t)size) == 0)
		return 0;
	/* A file system without fallocate: the writes will allocate. */
	if (errno == EOPNOTSUPP || errno == ENOSYS)
		return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	return -errno;
}

static int fill(int fd, const char *path, uint64_t size)
{
	char *zeroes = mmap(NULL, FILL_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int rc;

	if (zeroes == MAP_FAILED)
		return -errno;
	rc = reserve(fd, size);
	if (rc == 0)
		rc = write_zeroes(fd, zeroes, size);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (rc == 0)
		rc = sync_parent(path);
	munmap(zeroes, FILL_BYTES);
	return rc;
}

static int create(int fd, const char *path, uint64_t size, struct err *e)
{
	int rc;

	if (size < BDEV_ROUND || size % BDEV_ROUND || size > INT64_MAX)
		return err_set(e, -EINVAL,
			"create '%s': size %" PRIu64 " is not a positive multiple of %d", path,
			size, BDEV_ROUND);
	rc = fill(fd, path, size);
	if (rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG)
		return err_set(e, -ENOSPC, "create '%s': no room for %" PRIu64 " MiB there (%s)",
			path, size >> 20, strerror(-rc));
	return rc < 0 ? fail(e, rc, path, "create") : 0;
}

/* ---- all together ---- */

static int prepare_file(const char *path, unsigned flags, uint64_t create_bytes,
	const struct statx *sx, struct bdev_file *f, struct err *e)
{
	int rc;

	f->created = !sx->stx_size && (flags & BDEV_CREATE);
	f->size_bytes = f->created ? create_bytes : sx->stx_size;
	rc = file_sector(f->fd, path, &f->sector_bytes, e);
	if (rc < 0 || !f->created)
		return rc;
	return create(f->fd, path, create_bytes, e);
}

static int prepare(
	const char *path, unsigned flags, uint64_t create_bytes, struct bdev_file *f, struct err *e)
{
	struct statx sx = {0};
	int rc = 0;

	if (flags & BDEV_LOCK)
		rc = lock(f->fd, path, flags & BDEV_READONLY, e);
	if (rc == 0)
		rc = stat_fd(f->fd, path, &sx, e);
	if (rc < 0)
		return rc;
	rc = same_type(&sx, S_IFBLK) ? measure_disk(f->fd, path, f, e)
				     : prepare_file(path, flags, create_bytes, &sx, f, e);
	if (rc < 0)
		return rc;
	f->size_bytes -= f->size_bytes % BDEV_ROUND;
	if (!f->size_bytes)
		return err_set(e, -EINVAL, "'%s' is smaller than %d bytes", path, BDEV_ROUND);
	return 0;
}

/* O_EXCL on a block device keeps mounts and other exclusive openers away; on a file, without
 * O_CREAT, it would mean nothing. */
static int open_flags(const char *path, unsigned flags)
{
	int how = flags & BDEV_READONLY ? O_RDONLY : O_RDWR;
	struct stat st;

	if ((flags & BDEV_LOCK) && stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		how |= O_EXCL;
	return how;
}

static int open_once(const char *path, unsigned flags, uint64_t create_bytes, struct bdev_file *out,
	struct err *e)
{
	struct bdev_file f = {.fd = -1};
	int rc;

	if (flags & BDEV_READONLY)
		flags &= ~(unsigned)BDEV_CREATE;
	f.fd = open_direct(path, open_flags(path, flags), e);
	if (f.fd == -ENOENT && (flags & BDEV_CREATE)) {
		rc = path_make_parents(path);
		if (rc < 0)
			return fail(e, rc, path, "create the directory of");
		f.fd = open_direct(path, O_RDWR | O_CREAT, e);
		/* A file system without O_DIRECT makes the file, and then refuses to open it. */
		if (f.fd == -EINVAL)
			unlink(path);
	}
	if (f.fd < 0)
		return f.fd;
	rc = prepare(path, flags, create_bytes, &f, e);
	if (rc < 0) {
		/* What this call began to make goes away, while the lock still is ours. */
		if (f.created)
			unlink(path);
		close(f.fd);
		return rc;
	}
	if (e)
		e->msg[0] = 0;
	*out = f;
	return 0;
}

/* A process that was killed holds its lock until the kernel has ended its I/O, some milliseconds
 * after it is gone: whoever is restarted at once must not be told that the device is in use. */
int bdev_file_open(const char *path, unsigned flags, uint64_t create_bytes, struct bdev_file *out,
	struct err *e)
{
	struct timespec ts = {.tv_nsec = 1000000};
	int rc = open_once(path, flags, create_bytes, out, e);

	while (rc == -EBUSY && flags & BDEV_LOCK && !(flags & BDEV_AT_ONCE) &&
		ts.tv_nsec < BUSY_NS_MAX) {
		nanosleep(&ts, NULL);
		ts.tv_nsec *= 2;
		rc = open_once(path, flags, create_bytes, out, e);
	}
	return rc;
}
