/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bdev_impl.h - what bdev.c and its devices share: how each is opened.  Loop thread only. */
#ifndef LSVD_SYS_BDEV_IMPL_H
#define LSVD_SYS_BDEV_IMPL_H

#include "sys/bdev.h"
#include "sys/container.h"

enum { BDEV_ROUND = 4096 };

struct bdev_open_args {
	struct loop *loop;
	const char *url, *rest; /* the whole URL, and what follows its scheme */
	unsigned flags;		/* enum bdev_flags */
	uint64_t create_bytes;
};

int bdev_uring_open(
	const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e) MUST_CHECK;
int bdev_mem_open(
	const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e) MUST_CHECK;
int bdev_nbd_open(
	const struct bdev_open_args *a, struct bdev **out, bool *created, struct err *e) MUST_CHECK;

/* bdev_file.c: open, lock and, when asked, create the file behind a file: URL.  Blocks. */
struct bdev_file {
	int fd;
	uint64_t size_bytes;
	uint32_t sector_bytes;
	bool created;
};
int bdev_file_open(const char *path, unsigned flags, uint64_t create_bytes, struct bdev_file *out,
	struct err *e) MUST_CHECK;

/* Fill in the common part of a device. */
void bdev_init(struct bdev *d, const struct bdev_ops *ops, const struct bdev_open_args *a);

#endif
