/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recorder.c - an nbdkit plugin: a disk in a file that keeps every write and flush, in the order in
 * which they completed, in another file.
 *
 *   nbdkit ./recorder.so file=DISK log=LOG
 *
 * A request is in the log before it is answered, so the length of the log is a point in time: what
 * was acknowledged before is in front of it.  The log is a sequence of
 *   u32 op (1 write, 2 flush, 3 discard, 4 zeroes), u32 bytes, u64 offset, then of a write its data
 * in the byte order of the machine.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

enum { WRITE = 1, FLUSH, DISCARD, ZEROES };

static char *disk_name, *log_name;
static int disk = -1, log_fd = -1;

static int recorder_config(const char *key, const char *value)
{
	char **to = !strcmp(key, "file") ? &disk_name : !strcmp(key, "log") ? &log_name : NULL;

	if (!to) {
		nbdkit_error("unknown parameter '%s'", key);
		return -1;
	}
	*to = nbdkit_absolute_path(value);
	return *to ? 0 : -1;
}

static int recorder_get_ready(void)
{
	disk = open(disk_name, O_RDWR | O_CLOEXEC);
	log_fd = open(log_name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (disk < 0 || log_fd < 0) {
		nbdkit_error("%s: %s: %m", disk_name, log_name);
		return -1;
	}
	return 0;
}

static void *recorder_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t recorder_get_size(void *h)
{
	struct stat st;

	(void)h;
	return fstat(disk, &st) < 0 ? -1 : st.st_size;
}

static int recorder_pread(void *h, void *buf, uint32_t n, uint64_t off, uint32_t flags)
{
	(void)h;
	(void)flags;
	return pread(disk, buf, n, (off_t)off) == (ssize_t)n ? 0 : -1;
}

static int note(uint32_t op, const void *data, uint32_t n, uint64_t off)
{
	struct {
		uint32_t op, n;
		uint64_t off;
	} head = {op, n, off};
	struct iovec v[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)data, data ? n : 0}};

	if (writev(log_fd, v, 2) == (ssize_t)(sizeof(head) + v[1].iov_len))
		return 0;
	nbdkit_error("%s: %m", log_name);
	nbdkit_set_error(EIO);
	return -1;
}

static int recorder_pwrite(void *h, const void *buf, uint32_t n, uint64_t off, uint32_t flags)
{
	(void)h;
	(void)flags;
	return pwrite(disk, buf, n, (off_t)off) == (ssize_t)n ? note(WRITE, buf, n, off) : -1;
}

static int recorder_flush(void *h, uint32_t flags)
{
	(void)h;
	(void)flags;
	return note(FLUSH, NULL, 0, 0);
}

static int clear(uint32_t op, uint32_t n, uint64_t off)
{
	if (fallocate(disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, n) < 0)
		return -1;
	return note(op, NULL, n, off);
}

static int recorder_trim(void *h, uint32_t n, uint64_t off, uint32_t flags)
{
	(void)h;
	(void)flags;
	return clear(DISCARD, n, off);
}

static int recorder_zero(void *h, uint32_t n, uint64_t off, uint32_t flags)
{
	(void)h;
	(void)flags;
	return clear(ZEROES, n, off);
}

static struct nbdkit_plugin plugin = {
	.name = "recorder",
	.config = recorder_config,
	.get_ready = recorder_get_ready,
	.open = recorder_open,
	.get_size = recorder_get_size,
	.pread = recorder_pread,
	.pwrite = recorder_pwrite,
	.flush = recorder_flush,
	.trim = recorder_trim,
	.zero = recorder_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
