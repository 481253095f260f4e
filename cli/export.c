/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * export.c - `lsvd export IMAGE FILE`: an image as a raw file, on a block device, or on a pipe.
 *
 * The library runs on its own thread (thread drive) and this thread writes the file, so that both
 * copy at once.  DEPTH pieces of 1 MiB are in flight; they are written in their order.  Pieces in
 * which nothing is mapped are not read, and zeroes not written, where the file can be sparse.
 *
 * An image that was not closed cleanly is opened for writing, so that what is only in the journal
 * is brought in first; or read as it is in its store, when told to.
 *
 * When anything fails, or on SIGINT, a file that was made is removed.
 */
#include "cli/copy.h"
#include "cli/zero.h"
#include "image/context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 16 };

struct piece {
	struct lsvd_io io; /* first: a reaped request is its piece */
	struct iovec iov;
	bool busy;
};

/* An image being read. */
struct export
{
	struct lsvd_image *img;
	struct lsvd_queue *q;
	uint8_t *mem;
	struct piece piece[DEPTH];
	uint8_t *mapped; /* a bit for each piece of the image */
	uint64_t pieces;
	int status; /* the first error of a request */
};

struct target {
	int fd;
	const char *name;
	bool created, sparse, seekable;
};

/* ---- the image ---- */

/* A piece ends with the image. */
static size_t piece_len(const struct export *r, uint64_t n)
{
	uint64_t left = lsvd_image_size(r->img) - n * COPY_PIECE;

	return left < COPY_PIECE ? (size_t)left : COPY_PIECE;
}

static bool is_mapped(const struct export *r, uint64_t n)
{
	return r->mapped[n / 8] >> (n % 8) & 1;
}

static int note_mapped(void *arg, uint64_t lba, uint64_t len)
{
	const uint64_t per_piece = COPY_PIECE / LSVD_SECTOR;
	struct export *r = arg;

	for (uint64_t n = lba / per_piece; n <= (lba + len - 1) / per_piece; n++)
		r->mapped[n / 8] |= (uint8_t)(1 << n % 8);
	return 0;
}

/* On the loop's thread, where the map may be looked at. */
static void walk(struct lsvd_io *io)
{
	struct export *r = io->user;

	if (io->status == 0)
		io->status = ctx_image_walk(
			r->img, 0, lsvd_image_size(r->img) / LSVD_SECTOR, note_mapped, r);
	r->status = io->status;
	__atomic_store_n(&r->piece[0].busy, false, __ATOMIC_RELEASE);
}

/* Find out which pieces hold anything, by a request whose completion looks at the map. */
static int find_mapped(struct export *r)
{
	struct piece *p = &r->piece[0];
	int rc;

	p->iov = (struct iovec){.iov_base = r->mem, .iov_len = LSVD_SECTOR};
	p->io.op = LSVD_READ;
	p->io.len_bytes = LSVD_SECTOR;
	p->io.iov = &p->iov;
	p->io.iovcnt = 1;
	p->io.cb = walk;
	p->io.user = r;
	p->busy = true;
	rc = lsvd_submit(r->img, &p->io);
	while (rc == 0 && __atomic_load_n(&p->busy, __ATOMIC_ACQUIRE))
		usleep(200);
	return rc < 0 ? rc : r->status;
}

static int export_open(struct export *r, struct lsvd_ctx *ctx, struct lsvd_image *img, char *why)
{
	int rc;

	r->img = img;
	r->pieces = (lsvd_image_size(img) + COPY_PIECE - 1) / COPY_PIECE;
	r->mapped = calloc(1, (size_t)(r->pieces / 8 + 1));
	r->mem = mmap(NULL, (size_t)COPY_PIECE * DEPTH, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (r->mem == MAP_FAILED)
		r->mem = NULL;
	if (!r->mem || !r->mapped)
		return -ENOMEM;
	rc = find_mapped(r);
	return rc < 0 ? rc : lsvd_queue_new(ctx, DEPTH, &r->q, why);
}

static void export_wait(struct export *r, const struct piece *p)
{
	struct lsvd_io *done[DEPTH];

	while (p->busy) {
		int n = lsvd_queue_reap(r->q, done, 1, DEPTH, 1000000000);

		for (int i = 0; i < n; i++) {
			((struct piece *)done[i])->busy = false;
			if (done[i]->status < 0 && r->status == 0)
				r->status = done[i]->status;
		}
	}
}

static void export_close(struct export *r)
{
	for (unsigned i = 0; i < DEPTH && r->q; i++)
		export_wait(r, &r->piece[i]);
	if (r->q)
		lsvd_queue_free(r->q);
	if (r->mem)
		munmap(r->mem, (size_t)COPY_PIECE * DEPTH);
	free(r->mapped);
}

/* Begin to read piece n, unless it is known to be zero. */
static void export_start(struct export *r, uint64_t n)
{
	struct piece *p = &r->piece[n % DEPTH];
	uint8_t *buf = r->mem + (size_t)COPY_PIECE * (n % DEPTH);
	int rc;

	if (!is_mapped(r, n))
		return;
	p->iov = (struct iovec){.iov_base = buf, .iov_len = piece_len(r, n)};
	p->io.op = LSVD_READ;
	p->io.offset_bytes = n * COPY_PIECE;
	p->io.len_bytes = p->iov.iov_len;
	p->io.iov = &p->iov;
	p->io.iovcnt = 1;
	p->io.cb = NULL;
	rc = lsvd_queue_submit(r->q, r->img, &p->io);
	p->busy = rc == 0;
	if (rc < 0 && r->status == 0)
		r->status = rc;
}

/* ---- the file ---- */

static int write_fully(const struct target *o, const uint8_t *buf, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n =
			o->seekable ? pwrite(o->fd, buf, len, (off_t)off) : write(o->fd, buf, len);

		if (n < 0 && errno == EINTR && !cli_interrupted)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
		off += (size_t)n;
	}
	return 0;
}

static int write_piece(
	const struct target *o, const struct export *r, uint64_t n, struct copy_totals *t)
{
	uint8_t *buf = r->mem + (size_t)COPY_PIECE * (n % DEPTH);
	size_t len = piece_len(r, n), at = 0, run;
	bool mapped = is_mapped(r, n);
	int rc = 0;

	if (!mapped && o->sparse)
		return 0;
	if (!mapped)
		memset(buf, 0, len);
	if (!o->sparse) {
		t->data_bytes += mapped ? len : 0;
		return write_fully(o, buf, len, n * COPY_PIECE);
	}
	for (; rc == 0 && (run = zero_next_run(buf, len, &at)); at += run) {
		rc = write_fully(o, buf + at, run, n * COPY_PIECE + at);
		t->data_bytes += run;
	}
	return rc;
}

static int open_target(const struct copy_args *a, struct target *o)
{
	int flags = O_WRONLY | O_CLOEXEC;
	struct stat st;

	o->name = a->to;
	if (!strcmp(a->to, "-")) {
		o->fd = STDOUT_FILENO;
		return CLI_OK;
	}
	if (stat(a->to, &st) < 0) {
		flags |= O_CREAT | O_EXCL;
		o->created = true;
	} else if (!a->force) {
		return cli_fail("%s exists; --force overwrites it", a->to);
	} else if (S_ISREG(st.st_mode)) {
		flags |= O_TRUNC;
	}
	o->fd = open(a->to, flags, 0666);
	if (o->fd < 0 || fstat(o->fd, &st) < 0)
		return cli_fail("%s: %s", a->to, strerror(errno));
	o->sparse = S_ISREG(st.st_mode);
	o->seekable = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
	return CLI_OK;
}

/* ---- the command ---- */

static int write_all(struct export *r, const struct target *o, struct copy_totals *t, bool quiet)
{
	struct cli_progress progress;
	uint64_t next = 0;
	int rc = 0;

	t->bytes = lsvd_image_size(r->img);
	cli_progress_begin(&progress, "export", t->bytes, quiet);
	for (uint64_t n = 0; n < r->pieces && rc == 0; n++) {
		while (next < r->pieces && next < n + DEPTH)
			export_start(r, next++);
		export_wait(r, &r->piece[n % DEPTH]);
		rc = cli_interrupted ? -EINTR : r->status;
		if (rc == 0)
			rc = write_piece(o, r, n, t);
		cli_progress_at(&progress, n * COPY_PIECE);
	}
	if (rc == 0)
		cli_progress_end(&progress);
	return rc;
}

static int transfer(struct lsvd_ctx *ctx, struct lsvd_image *img, const struct copy_args *a,
	const struct target *o, struct copy_totals *t, char *why)
{
	struct export *r = calloc(1, sizeof(*r));
	int rc = r ? export_open(r, ctx, img, why) : -ENOMEM;

	if (rc == 0 && o->sparse && ftruncate(o->fd, (off_t)lsvd_image_size(img)) < 0)
		rc = -errno;
	if (rc == 0)
		rc = write_all(r, o, t, a->open.quiet);
	if (r)
		export_close(r);
	free(r);
	return rc;
}

/* The image is opened before the file is touched.  Returns an exit code, after a message. */
static int export_image(
	struct lsvd_ctx *ctx, const struct copy_args *a, unsigned flags, struct copy_totals *t)
{
	struct target o = {.fd = -1};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_image *img;
	int rc = lsvd_image_open(ctx, a->from, flags, &img, why), closed;

	if (rc < 0)
		return copy_failed("export", rc, why);
	rc = open_target(a, &o);
	if (rc == CLI_OK) {
		rc = transfer(ctx, img, a, &o, t, why);
		if (close(o.fd) < 0 && rc == 0)
			rc = -errno;
		if (rc < 0 && o.created)
			(void)unlink(o.name);
		if (rc < 0)
			rc = copy_failed("export", rc, why);
	}
	closed = lsvd_image_close(img, why);
	return closed < 0 && rc == CLI_OK ? copy_failed("export", closed, why) : rc;
}

static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
static const struct argp_option options[] = {{"force", 'f', NULL, 0, "overwrite FILE", 0},
	{"no-journal", 'n', NULL, 0,
		"as the image is in its store: without what is only in the journal of a writer "
		"that "
		"has the image or died with it",
		0},
	{0}};
static const struct argp argp = {
	.options = options,
	.parser = copy_parse,
	.args_doc = "IMAGE FILE",
	.doc = "Write an image to a raw file, sparse where it is zero, or to a block device; `-` "
	       "is "
	       "standard output.\v"
	       "example: lsvd export file:/srv/vols/vm1 vm1.raw",
	.children = kids,
};

static int run(int argc, char **argv)
{
	struct copy_args a = {0};
	struct copy_totals t = {0};
	struct lsvd_ctx *ctx;
	bool readonly;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	readonly = a.no_journal || !cli_needs_journal(&a.open, a.from);
	rc = cli_open_ctx(
		&a.open, readonly ? CLI_POOL_NOT_ASKED : CLI_POOL, LSVD_DRIVE_THREAD, &ctx);
	if (rc)
		return rc;
	cli_catch_signals();
	copy_begin(&t);
	rc = export_image(ctx, &a, readonly ? LSVD_OPEN_READONLY : 0, &t);
	if (rc == CLI_OK)
		copy_report(&a, &t, "exported");
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(export, "write an image to a raw file", run)
