/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * import.c - `lsvd import FILE IMAGE`: a new image of a raw file, block device or standard input.
 *
 * The image is made by volume/bulk.h: no journal, each byte is written once, and nobody sees the
 * image before it is complete.  Pieces of 1 MiB are read straight into the object that is being
 * filled.  Zeroes are not stored: holes of the file are skipped (SEEK_DATA), and so are runs of
 * zeroes within data.  The file is read ahead by the kernel while the store writes objects.
 *
 * When anything fails, or on SIGINT, what was begun is removed.
 */
#include "cli/copy.h"
#include "cli/zero.h"
#include "sys/config.h"
#include "sys/loop_uring.h"
#include "volume/bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AHEAD = 16 << 20 };

struct source {
	int fd;
	uint64_t size_bytes; /* of the image */
	bool seekable;
};

struct sink {
	struct loop *loop;
	struct store *store;
	struct bulk *bulk;
	uint8_t *scratch; /* a piece that is not all data */
};

/* ---- the file ---- */

/* Up to len bytes; fewer only at the end of the file. */
static ssize_t read_fully(const struct source *s, uint8_t *buf, size_t len, uint64_t off)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = s->seekable ? pread(s->fd, buf + got, len - got, (off_t)(off + got))
					: read(s->fd, buf + got, len - got);

		if (n < 0 && errno == EINTR && !cli_interrupted)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Where the next data is, at or after `off`, rounded down to a grain. */
static uint64_t skip_hole(const struct source *s, uint64_t off)
{
	off_t data = s->seekable ? lseek(s->fd, (off_t)off, SEEK_DATA) : (off_t)off;
	uint64_t at;

	if (data < 0)
		return errno == ENXIO ? s->size_bytes : off;
	at = (uint64_t)data / ZERO_GRAIN * ZERO_GRAIN;
	return at > off ? at : off;
}

static int open_source(const struct copy_args *a, struct source *s)
{
	struct stat st;
	off_t end;

	s->fd = strcmp(a->from, "-") ? open(a->from, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return cli_fail("%s: %s", a->from, strerror(errno));
	s->seekable = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
	end = s->seekable ? lseek(s->fd, 0, SEEK_END) : 0;
	s->size_bytes = a->has_size ? a->size_bytes : ((uint64_t)end + 511) / 512 * 512;
	if (!s->seekable && !a->has_size) {
		cli_fail("%s is not a file: say how big the image is to be with --size", a->from);
		return CLI_USAGE;
	}
	if (s->seekable && s->size_bytes < (uint64_t)end)
		return cli_fail(
			"%s has %lld bytes and does not fit in --size", a->from, (long long)end);
	if (s->size_bytes == 0)
		return cli_fail("%s is empty", a->from);
	return CLI_OK;
}

/* A source that cannot seek must not have more than the image takes. */
static int check_end(const struct source *s)
{
	char c;

	return s->seekable || read(s->fd, &c, 1) <= 0 ? 0 : -EFBIG;
}

/* ---- the image ---- */

static int open_sink(const struct copy_args *a, uint64_t size, struct sink *k, struct err *e)
{
	char name[80];
	struct bulk_options o = {0};
	struct lsvd_config *cfg;
	struct config c;
	int rc = cli_open_config(&a->open, &cfg);

	if (rc)
		return err_set(e, -EINVAL, "see above");
	rc = config_resolve(cfg, a->to, &c, e);
	if (rc == 0) {
		o.object_bytes = c.object_bytes;
		o.puts = c.destage_puts;
		k->scratch = malloc(COPY_PIECE);
		rc = k->scratch ? loop_uring_new(256, &k->loop, e) : -ENOMEM;
	}
	if (rc == 0)
		rc = store_open_image(
			k->loop, cfg, a->to, STORE_CREATE, &k->store, name, sizeof(name), e);
	lsvd_config_free(cfg);
	if (rc == 0)
		rc = bulk_begin(k->store, name, size, &o, &k->bulk, e);
	return rc;
}

static void close_sink(struct sink *k)
{
	if (k->bulk)
		bulk_abort(k->bulk);
	if (k->store)
		store_close(k->store);
	if (k->loop)
		loop_free(k->loop);
	free(k->scratch);
}

/* Sectors; the last may be partly padding. */
static uint64_t sectors(size_t bytes)
{
	return (bytes + LSVD_SECTOR - 1) / LSVD_SECTOR;
}

/* `len` bytes at `buf`, the bulk's own buffer, are the image's at `off`. */
static int put_piece(struct sink *k, uint8_t *buf, size_t len, uint64_t off, struct copy_totals *t,
	struct err *e)
{
	size_t at = 0, run = zero_next_run(buf, len, &at);
	int rc = 0;

	t->data_bytes += run;
	if (run == len)
		return bulk_add(k->bulk, off / LSVD_SECTOR, sectors(len), e);
	if (run)
		memcpy(k->scratch, buf, len);
	while (rc == 0 && run) {
		rc = bulk_write(k->bulk, (off + at) / LSVD_SECTOR, k->scratch + at, run, e);
		at += run;
		run = zero_next_run(k->scratch, len, &at);
		t->data_bytes += run;
	}
	return rc;
}

/* Read and put what is at `off`; *step: how far that went. */
static int import_piece(struct sink *k, const struct source *s, uint64_t off, uint64_t *step,
	struct copy_totals *t, struct err *e)
{
	uint64_t left = s->size_bytes - off, room = left < COPY_PIECE ? left : COPY_PIECE;
	uint8_t *buf = bulk_buffer(k->bulk, &room);
	size_t len = (size_t)room;
	ssize_t got;

	if (len < left && len > ZERO_GRAIN) /* at the end of an object: whole grains */
		len = len / ZERO_GRAIN * ZERO_GRAIN;
	got = read_fully(s, buf, len, off);
	if (got < 0)
		return err_set(e, (int)got, "read: %s", strerror((int)-got));
	memset(buf + got, 0, len - (size_t)got);
	*step = len;
	return put_piece(k, buf, len, off, t, e);
}

static int import_all(
	struct sink *k, const struct source *s, struct copy_totals *t, bool quiet, struct err *e)
{
	struct cli_progress progress;
	uint64_t off = 0, step = 0;
	int rc = 0;

	cli_progress_begin(&progress, "import", s->size_bytes, quiet);
	if (s->seekable)
		(void)posix_fadvise(s->fd, 0, AHEAD, POSIX_FADV_WILLNEED);
	while (rc == 0 && (off = skip_hole(s, off)) < s->size_bytes) {
		if (cli_interrupted)
			return -EINTR;
		if (s->seekable)
			(void)posix_fadvise(
				s->fd, (off_t)(off + AHEAD), COPY_PIECE, POSIX_FADV_WILLNEED);
		rc = import_piece(k, s, off, &step, t, e);
		(void)loop_poll(k->loop, 0); /* PUTs go on */
		off += step;
		cli_progress_at(&progress, off);
	}
	if (rc == 0)
		rc = check_end(s);
	if (rc == 0)
		cli_progress_end(&progress);
	t->bytes = s->size_bytes;
	return rc;
}

/* ---- the command ---- */

static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
static const struct argp_option options[] = {
	{"size", 's', "SIZE", 0, "of the image, when it is to be larger than FILE", 0}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = copy_parse,
	.args_doc = "FILE IMAGE",
	.doc = "Make an image of a raw file or block device; `-` is standard input and needs "
	       "--size.  "
	       "Holes and zeroes take no room.\v"
	       "example: lsvd import debian.raw file:/srv/vols/debian",
	.children = kids,
};

static int run(int argc, char **argv)
{
	struct source s = {.fd = -1};
	struct copy_args a = {0};
	struct copy_totals t = {0};
	struct err e = {.msg = ""};
	struct sink k = {0};
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = open_source(&a, &s);
	if (rc)
		return rc;
	cli_catch_signals();
	copy_begin(&t);
	rc = open_sink(&a, s.size_bytes, &k, &e);
	if (rc == 0)
		rc = import_all(&k, &s, &t, a.open.quiet, &e);
	if (rc == 0) {
		struct bulk *b = k.bulk;

		k.bulk = NULL;
		rc = bulk_finish(b, NULL, 0, &e);
	}
	close_sink(&k);
	if (rc == -EFBIG)
		err_set(&e, rc, "%s has more than --size", a.from);
	if (rc < 0)
		return copy_failed("import", rc, e.msg);
	copy_report(&a, &t, "imported");
	return CLI_OK;
}
CLI_COMMAND(import, "make an image of a raw file", run)
