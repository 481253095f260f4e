/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * err.h - one meaning per errno, and the message that goes with it.
 *
 * Functions return >= 0 or -errno.  Paths a person waits for (open, create, import ...) also fill a
 * `struct err`: what happened, where, and what to do.  Each level that knows more puts itself in
 * front: `open image 'vm1': read superblock: file store '/srv/vols': No such file or directory`.
 *
 * Any thread; a struct err belongs to its caller.
 *
 *   EINVAL    the caller asked for something that makes no sense (size 0, unaligned, beyond the end)
 *   ENOENT    image, object or store does not exist
 *   EEXIST    it exists already (exclusive create lost)
 *   EBADMSG   a checksum does not match: bytes are damaged
 *   EUCLEAN   checksum fine, contents impossible: foreign, or written by a bug
 *   EPROTO    a version this build does not know
 *   ESTALE    fenced: another writer has taken the image
 *   EBUSY     in use by another process
 *   ENOSPC    no room (store full, pool full)
 *   EROFS     the image is read-only (opened so, or after its first journal error)
 *   ESHUTDOWN the image or context is closing
 *   EAGAIN    try again later (an internal queue is full)
 *   EIO       the device or store failed
 */
#ifndef LSVD_SYS_ERR_H
#define LSVD_SYS_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

struct err {
	char msg[512];
};

/* Set the message and return `code` unchanged, so that `return err_set(e, -EINVAL, ...)` reads well.
 * `e` may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);

/* Put "prefix: " in front of what is there (or of strerror(-code) when nothing is); returns code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);

/* The message, or strerror(-code) when none was set. */
const char *err_text(const struct err *e, int code);

#endif
