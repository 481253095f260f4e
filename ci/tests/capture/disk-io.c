/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* disk-io.c - requests of every kind to a block device, for a recording: disk-io DEVICE [TASKS
 * [REQUESTS]].
 *
 * Each task is a process with a region of its own: direct reads and writes of 4 to 64 KiB, some of
 * the writes FUA, and now and then a flush, a discard or zeroes.  What is written is one byte over
 * and over, so that recordings compress. Prints each request: R W S (FUA) F T Z, offset, length. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REGION = 16 << 20, PIECE = 4096 };

static uint64_t next(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545F4914F6CDD1Dull;
}

static int one(int fd, uint64_t *s, uint64_t base, void *buf)
{
	uint64_t len = PIECE << next(s) % 5,
		 off = base + next(s) % ((REGION - len) / PIECE) * PIECE;
	uint64_t range[2] = {off, len};
	struct iovec iov = {buf, len};
	unsigned kind = (unsigned)(next(s) % 32);

	memset(buf, (int)kind, len);
	printf("%c %llu %llu\n",
		kind < 12   ? 'R'
		: kind < 15 ? 'S'
		: kind < 24 ? 'W'
		: kind < 27 ? 'F'
		: kind < 30 ? 'T'
			    : 'Z',
		(unsigned long long)off, (unsigned long long)len);
	if (kind < 12)
		return pread(fd, buf, len, (off_t)off) == (ssize_t)len;
	if (kind < 24)
		return pwritev2(fd, &iov, 1, (off_t)off, kind < 15 ? RWF_DSYNC : 0) == (ssize_t)len;
	if (kind < 27)
		return fdatasync(fd) == 0;
	return ioctl(fd, kind < 30 ? BLKDISCARD : BLKZEROOUT, range) == 0;
}

static int task(const char *path, unsigned id, unsigned requests)
{
	int fd = open(path, O_RDWR | O_DIRECT);
	uint64_t s = 0x9E3779B97F4A7C15ull * (id + 1);
	void *buf = aligned_alloc(PIECE, PIECE << 4);

	for (unsigned i = 0; i < requests; i++) {
		if (fd < 0 || !buf || !one(fd, &s, (uint64_t)id * REGION, buf)) {
			perror(path);
			return 1;
		}
	}
	return fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned tasks = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	unsigned requests = argc > 3 ? (unsigned)atoi(argv[3]) : 100;
	int rc = argc < 2, status;

	for (unsigned i = 0; rc == 0 && i < tasks; i++)
		if (fork() == 0)
			_exit(task(argv[1], i, requests));
	while (wait(&status) > 0)
		rc |= status != 0;
	return rc;
}
