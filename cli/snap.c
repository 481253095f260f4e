/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snap.c - `lsvd snap create|list|remove|rollback`, `lsvd clone`, `lsvd flatten`.
 *
 * Creating and removing need the image for writing: one that another process has open is refused
 * with its name (it makes its snapshots itself, by lsvd_snapshot_create()).
 */
#include "cli/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARSER_FOR(kids_, name_, args_doc_, doc_) \
	static const struct argp name_ = {        \
		.parser = cli_words_parse, .doc = doc_, .args_doc = args_doc_, .children = kids_}
#define PARSER(...) PARSER_FOR(cli_kids, __VA_ARGS__)

/* What was done, for --json: two words. */
static void tell(const struct cli_words *a, const char *key, const char *value, const char *key2,
	const char *value2)
{
	if (a->open.json)
		cli_print_json(json_pack("{s:s, s:s}", key, value, key2, value2));
}

static void tell_snapshot(const struct cli_words *a)
{
	const char *at = strrchr(a->word[0], '@');
	char *image = strndup(a->word[0], (size_t)(at - a->word[0]));

	if (image)
		tell(a, "image", image, "snapshot", at + 1);
	free(image);
}

/* IMAGE@SNAPSHOT into its two halves; `image` is to be freed. */
static int split(const char *word, char **image, const char **snapshot)
{
	const char *at = strrchr(word, '@');

	if (!at || strchr(at, '/') || !at[1])
		return cli_fail("'%s' names no snapshot: IMAGE@SNAPSHOT is wanted", word);
	*image = strndup(word, (size_t)(at - word));
	*snapshot = at + 1;
	return *image ? CLI_OK : cli_fail("%s", strerror(ENOMEM));
}

/* Call work for every word while its image is open for writing. */
static int with_image(const struct cli_words *a, const char *image,
	int (*work)(const struct cli_words *a, struct lsvd_image *img))
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_image *img;
	struct lsvd_ctx *ctx;
	int rc = cli_open_ctx(&a->open, CLI_POOL, LSVD_DRIVE_INLINE, &ctx), closed;

	if (rc)
		return rc;
	rc = cli_open_image(&a->open, ctx, image, &img);
	if (rc == CLI_OK) {
		rc = work(a, img);
		closed = lsvd_image_close(img, why);
		if (closed < 0)
			rc = cli_told(why, closed);
	}
	lsvd_ctx_close(ctx);
	return rc;
}

/* ---- create, remove ---- */

PARSER_FOR(cli_write_kids, create_argp, "IMAGE@SNAPSHOT",
	"Keep the image as it is now under a name.  One that a process has open makes its "
	"snapshots by itself.\v"
	"example: lsvd snap create file:/srv/vols/vm1@monday");

static int do_create(const struct cli_words *a, struct lsvd_image *img)
{
	char why[LSVD_ERR_MAX] = "";
	int rc = lsvd_snapshot_create(img, strrchr(a->word[0], '@') + 1, why);

	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

PARSER_FOR(cli_write_kids, remove_argp, "IMAGE@SNAPSHOT",
	"Remove a snapshot, and what only it needs.  One that has clones is refused.\v"
	"example: lsvd snap remove file:/srv/vols/vm1@monday");

static int do_remove(const struct cli_words *a, struct lsvd_image *img)
{
	char why[LSVD_ERR_MAX] = "";
	int rc = lsvd_snapshot_remove(img, strrchr(a->word[0], '@') + 1, why);

	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

static int run_on_snapshot(int argc, char **argv, const struct argp *argp,
	int (*work)(const struct cli_words *a, struct lsvd_image *img))
{
	struct cli_words a = {.min = 1, .max = 1, .writes = true};
	const char *snapshot;
	char *image;
	int rc;

	if (argp_parse(argp, argc, argv, 0, NULL, &a) ||
		split(a.word[0], &image, &snapshot) != CLI_OK)
		return CLI_USAGE;
	rc = with_image(&a, image, work);
	if (rc == CLI_OK)
		tell_snapshot(&a);
	free(image);
	return rc;
}

static int snap_create(int argc, char **argv)
{
	return run_on_snapshot(argc, argv, &create_argp, do_create);
}

static int snap_remove(int argc, char **argv)
{
	return run_on_snapshot(argc, argv, &remove_argp, do_remove);
}

/* ---- list ---- */

PARSER(list_argp, "IMAGE",
	"List the snapshots of an image, the oldest first.\v"
	"example: lsvd snap list file:/srv/vols/vm1");

static const char *time_text(uint64_t ns, char out[32])
{
	time_t t = (time_t)(ns / 1000000000u);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(out, 32, "?");
	return out;
}

static int list_one(void *arg, const struct lsvd_snapshot_info *s)
{
	json_t *out = arg;
	char when[32];

	time_text(s->created_ns, when);
	if (out)
		json_array_append_new(out,
			json_pack("{sI,ss,sI,sI,ss,sb}", "id", (json_int_t)s->id, "name", s->name,
				"size_bytes", (json_int_t)s->size_bytes, "object",
				(json_int_t)s->object, "created", when, "automatic", s->automatic));
	else
		printf("%-24s %12s  %s%s\n", s->name, cli_size(s->size_bytes), when,
			s->automatic ? "  (for clones)" : "");
	return 0;
}

static int snap_list(int argc, char **argv)
{
	struct cli_words a = {.min = 1, .max = 1};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	json_t *out;
	int rc;

	if (argp_parse(&list_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	out = a.open.json ? json_array() : NULL;
	rc = lsvd_snapshot_list(ctx, a.word[0], list_one, out, why);
	lsvd_ctx_close(ctx);
	if (rc < 0) {
		json_decref(out);
		return cli_told(why, rc);
	}
	if (out)
		cli_print_json(out);
	return CLI_OK;
}

/* ---- rollback ---- */

PARSER_FOR(cli_write_kids, rollback_argp, "IMAGE@SNAPSHOT",
	"Make the image what it was at a snapshot.  What was written since is lost, unless another "
	"snapshot has it; snapshots stay.\v"
	"example: lsvd snap rollback file:/srv/vols/vm1@monday");

static int do_nothing(const struct cli_words *a, struct lsvd_image *img)
{
	(void)a;
	(void)img;
	return CLI_OK;
}

static int snap_rollback(int argc, char **argv)
{
	struct cli_words a = {.min = 1, .max = 1, .writes = true};
	char why[LSVD_ERR_MAX] = "", *image;
	const char *snapshot;
	struct lsvd_ctx *ctx;
	int rc = CLI_OK;

	if (argp_parse(&rollback_argp, argc, argv, 0, NULL, &a) ||
		split(a.word[0], &image, &snapshot) != CLI_OK)
		return CLI_USAGE;
	/* An image that is ours, and closed, can be rolled back. */
	if (a.open.steal || a.open.no_journal)
		rc = with_image(&a, image, do_nothing);
	free(image);
	if (rc)
		return rc;
	rc = cli_open_ctx(&a.open, CLI_POOL, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_snapshot_rollback(ctx, a.word[0], why);
	if (rc < 0)
		rc = cli_told(why, rc);
	else
		tell_snapshot(&a);
	lsvd_ctx_close(ctx);
	return rc;
}

static const struct cli_sub subs[] = {
	{"create", "keep an image as it is now", snap_create},
	{"list", "list an image's snapshots", snap_list},
	{"remove", "remove a snapshot", snap_remove},
	{"rollback", "make an image what it was at a snapshot", snap_rollback},
	{NULL, NULL, NULL},
};

static int run_snap(int argc, char **argv)
{
	return cli_dispatch("snap", subs, argc, argv);
}
CLI_COMMAND(snap, "snapshots: create, list, remove, rollback", run_snap)

/* ---- clone ---- */

PARSER(clone_argp, "IMAGE[@SNAPSHOT] NEW-IMAGE",
	"Make a new image, in the same store, that is what another was at a snapshot, or is, when "
	"it was closed cleanly.  Data is shared until it is overwritten.\v"
	"example: lsvd clone file:/srv/vols/debian@base file:/srv/vols/vm7");

static int run_clone(int argc, char **argv)
{
	struct cli_words a = {.min = 2, .max = 2};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&clone_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_clone(ctx, a.word[0], a.word[1], why);
	if (rc < 0)
		rc = cli_told(why, rc);
	else
		tell(&a, "image", a.word[1], "of", a.word[0]);
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(clone, "make an image that shares another's data", run_clone)

/* ---- flatten ---- */

PARSER_FOR(cli_write_kids, flatten_argp, "IMAGE",
	"Copy what a clone has in its base, so that it needs the base no more.  When it is cut "
	"short it goes on there the next time.\v"
	"example: lsvd flatten file:/srv/vols/vm7");

struct flatten {
	struct cli_progress bar;
	uint64_t copied;
	bool begun, quiet;
};

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct flatten *f = arg;

	if (!f->begun)
		cli_progress_begin(&f->bar, "flatten", total, f->quiet);
	f->begun = true;
	f->copied = done;
	cli_progress_at(&f->bar, done);
	return cli_interrupted;
}

static int do_flatten(const struct cli_words *a, struct lsvd_image *img)
{
	struct flatten f = {.quiet = a->open.quiet || a->open.json};
	char why[LSVD_ERR_MAX] = "";
	int rc;

	cli_catch_signals();
	rc = lsvd_image_flatten(img, on_progress, &f, why);
	if (rc == 0 && f.begun)
		cli_progress_end(&f.bar);
	if (rc == 0 && a->open.json)
		cli_print_json(json_pack(
			"{s:s, s:I}", "image", a->word[0], "copied_bytes", (json_int_t)f.copied));
	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

static int run_flatten(int argc, char **argv)
{
	struct cli_words a = {.min = 1, .max = 1, .writes = true};

	if (argp_parse(&flatten_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	return with_image(&a, a.word[0], do_flatten);
}
CLI_COMMAND(flatten, "make a clone independent of its base", run_flatten)
