/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image.c - `lsvd create|ls|info|stat|rm|resize|gc`: the administration of images.
 *
 * The commands share one set of options, of which each takes some (struct command says which). What
 * only looks at the store works beside a process that has the pool: it gets a pool in memory.
 */
#include "cli/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_SIZE = 's', OPT_LONG = 'l', OPT_FORCE = 'f', OPT_TARGET = 't' };

struct args {
	struct cli_words w;
	uint64_t size_bytes;
	unsigned target_percent;
	bool has_size, force, details;
};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;
	char *end;

	switch (key) {
	case OPT_SIZE:
		if (cli_parse_size(arg, &a->size_bytes) < 0)
			argp_error(s, "--size: '%s' is not a size", arg);
		a->has_size = true;
		return 0;
	case OPT_LONG:
		a->details = true;
		return 0;
	case OPT_FORCE:
		a->force = true;
		return 0;
	case OPT_TARGET:
		a->target_percent = (unsigned)strtoul(arg, &end, 10);
		if (end == arg || *end || a->target_percent < 1 || a->target_percent > 99)
			argp_error(s, "--target: '%s' is not a percentage from 1 to 99", arg);
		return 0;
	default:
		return cli_words_parse(key, arg, s);
	}
}

#define PARSER_FOR(kids_, name_, options_, args_doc_, doc_)    \
	static const struct argp name_ = {.options = options_, \
		.parser = parse,                               \
		.doc = doc_,                                   \
		.args_doc = args_doc_,                         \
		.children = kids_}
#define PARSER(...) PARSER_FOR(cli_kids, __VA_ARGS__)

/* ---- create ---- */

static const struct argp_option create_options[] = {
	{"size", OPT_SIZE, "SIZE", 0, "its size: a multiple of 512, such as 10G", 0}, {0}};
PARSER(create_argp, create_options, "IMAGE",
	"Create an image.  It reads as zeroes and takes no room until it is written.\v"
	"example: lsvd create file:/srv/vols/vm1 --size 10G");

static int run_create(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&create_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	if (!a.has_size) {
		cli_fail("create: how big? add --size SIZE");
		return CLI_USAGE;
	}
	rc = cli_open_ctx(&a.w.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_image_create(ctx, a.w.word[0], a.size_bytes, why);
	if (rc < 0)
		rc = cli_told(why, rc);
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(create, "create an image", run_create)

/* ---- facts ---- */

static unsigned live_percent(const struct lsvd_image_info *i)
{
	return i->stored_bytes ? (unsigned)(100.0 * (double)i->live_bytes / (double)i->stored_bytes)
			       : 100;
}

static json_t *info_json(const struct lsvd_image_info *i)
{
	return json_pack("{ss,ss,ss,sI,sI,sI,sI,sI,si,sI,sb,ss,ss,si,sI,sI,ss,sI}", "url", i->url, "name", i->name,
		"uuid", i->uuid, "size_bytes", (json_int_t)i->size_bytes, "epoch",
		(json_int_t)i->epoch, "objects", (json_int_t)i->objects, "stored_bytes",
		(json_int_t)i->stored_bytes, "live_bytes", (json_int_t)i->live_bytes,
		"live_percent", (int)live_percent(i), "extents", (json_int_t)i->extents, "clean",
		i->clean, "last_writer", i->last_writer, "snapshot", i->snapshot, "snapshots",
		(int)i->snapshots, "kept_objects", (json_int_t)i->kept_objects, "kept_bytes",
		(json_int_t)i->kept_bytes, "base", i->base, "base_bytes",
		(json_int_t)i->base_bytes);
}

static void print_info(const struct lsvd_image_info *i)
{
	printf("image        %s\n", i->url);
	printf("uuid         %s\n", i->uuid);
	printf("size         %s (%llu bytes)\n", cli_size(i->size_bytes),
		(unsigned long long)i->size_bytes);
	printf("stored       %s in %llu objects\n", cli_size(i->stored_bytes),
		(unsigned long long)i->objects);
	printf("live         %s (%u %%)\n", cli_size(i->live_bytes), live_percent(i));
	if (i->base[0])
		printf("base         %s (%s of what is stored)\n", i->base,
			cli_size(i->base_bytes));
	if (i->snapshots)
		printf("snapshots    %u (%s kept in %llu more objects)\n", i->snapshots,
			cli_size(i->kept_bytes), (unsigned long long)i->kept_objects);
	printf("extents      %llu\n", (unsigned long long)i->extents);
	printf("epoch        %llu\n", (unsigned long long)i->epoch);
	printf("closed       %s\n", i->clean ? "cleanly" : "not cleanly, or open for writing");
	if (i->last_writer[0])
		printf("last writer  %s\n", i->last_writer);
}

PARSER(info_argp, NULL, "IMAGE",
	"Print the facts about an image, from the store alone.\v"
	"example: lsvd info file:/srv/vols/vm1 --json");

static int run_info(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	struct lsvd_image_info info;
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&info_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.w.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_image_stat(ctx, a.w.word[0], &info, why);
	if (rc < 0)
		rc = cli_told(why, rc);
	else if (a.w.open.json)
		cli_print_json(info_json(&info));
	else
		print_info(&info);
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(info, "print an image's facts", run_info)

/* ---- stat: facts, and what it takes to open the image ---- */

PARSER(stat_argp, NULL, "IMAGE",
	"Open an image read-only, as it is in its store, and print its facts and the library's "
	"statistics: what opening it took from the store, and what the image is made of.\v"
	"example: lsvd stat file:/srv/vols/vm1 --json");

static int print_stat(struct args *a, struct lsvd_image *img)
{
	struct lsvd_image_info info;
	char *text = lsvd_image_stats_json(img);
	json_t *stats = text ? json_loads(text, 0, NULL) : NULL;
	int rc = lsvd_image_info(img, &info);

	free(text);
	if (rc < 0 || !stats) {
		json_decref(stats);
		return cli_fail(
			"%s: no statistics: %s", a->w.word[0], strerror(rc < 0 ? -rc : ENOMEM));
	}
	if (a->w.open.json) {
		cli_print_json(json_pack("{so,so}", "image", info_json(&info), "stats", stats));
		return CLI_OK;
	}
	print_info(&info);
	printf("statistics of this open:\n");
	cli_print_json(stats);
	return CLI_OK;
}

static int run_stat(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_image *img;
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&stat_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.w.open, CLI_POOL_NOT_ASKED, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_image_open(ctx, a.w.word[0], LSVD_OPEN_READONLY, &img, why);
	if (rc == 0) {
		rc = print_stat(&a, img);
		(void)lsvd_image_close(img, NULL);
	} else {
		rc = cli_told(why, rc);
	}
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(stat, "open an image read-only and print its statistics", run_stat)

/* ---- ls ---- */

static const struct argp_option ls_options[] = {
	{"long", OPT_LONG, NULL, 0, "with size, bytes stored, and whether it was closed cleanly",
		0},
	{0}};
PARSER(ls_argp, ls_options, "STORE-URL",
	"List the images of a store, in order of name.\v"
	"example: lsvd ls file:/srv/vols --long");

struct list {
	char **name;
	size_t n, room;
};

static int add_name(void *arg, const char *name)
{
	struct list *l = arg;

	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		char **more = realloc(l->name, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->name = more;
		l->room = room;
	}
	l->name[l->n] = strdup(name);
	return l->name[l->n++] ? 0 : -ENOMEM;
}

static int print_image(struct lsvd_ctx *ctx, const struct args *a, const char *name, json_t *out)
{
	struct lsvd_image_info info;
	char url[640], why[LSVD_ERR_MAX] = "";
	size_t len = strlen(a->w.word[0]);
	bool glue = len && (a->w.word[0][len - 1] == '/' || a->w.word[0][len - 1] == ':');
	int rc;

	if (!a->details && !out) {
		printf("%s\n", name);
		return CLI_OK;
	}
	snprintf(url, sizeof(url), "%s%s%s", a->w.word[0], glue ? "" : "/", name);
	rc = lsvd_image_stat(ctx, url, &info, why);
	if (rc < 0)
		return cli_told(why, rc);
	if (out)
		json_array_append_new(out, info_json(&info));
	else
		printf("%-24s %12s  stored %12s  %s\n", name, cli_size(info.size_bytes),
			cli_size(info.stored_bytes), info.clean ? "clean" : "open or not clean");
	return CLI_OK;
}

static int run_ls(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	char why[LSVD_ERR_MAX] = "";
	struct list l = {0};
	struct lsvd_ctx *ctx;
	json_t *out = NULL;
	int rc;

	if (argp_parse(&ls_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.w.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	if (a.w.open.json)
		out = json_array();
	rc = lsvd_image_list(ctx, a.w.word[0], add_name, &l, why);
	if (rc < 0)
		rc = cli_told(why, rc);
	for (size_t i = 0; i < l.n; i++) {
		if (rc == CLI_OK && l.name[i])
			rc = print_image(ctx, &a, l.name[i], out);
		free(l.name[i]);
	}
	free(l.name);
	if (rc == CLI_OK && out)
		cli_print_json(json_incref(out));
	json_decref(out);
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(ls, "list the images of a store", run_ls)

/* ---- rm ---- */

static const struct argp_option rm_options[] = {
	{"force", OPT_FORCE, NULL, 0, "do not ask, and no error when it does not exist", 0}, {0}};
PARSER(rm_argp, rm_options, "IMAGE",
	"Remove an image: its snapshots, its objects and what the pool holds of it.  Asks first on a "
	"terminal.  An image that has clones is refused.\v"
	"example: lsvd rm file:/srv/vols/vm1");

static bool confirmed(const char *image)
{
	int c;

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	fprintf(stderr, "remove %s and all its data? [y/N] ", image);
	c = getchar();
	return c == 'y' || c == 'Y';
}

static int run_rm(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&rm_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	if (!a.force && !confirmed(a.w.word[0]))
		return cli_fail("%s stays", a.w.word[0]);
	rc = cli_open_ctx(&a.w.open, CLI_POOL_IF_THERE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = lsvd_image_remove(ctx, a.w.word[0], why);
	if (rc == -ENOENT && a.force)
		rc = 0;
	if (rc < 0)
		rc = cli_told(why, rc);
	lsvd_ctx_close(ctx);
	return rc;
}
CLI_COMMAND(rm, "remove an image", run_rm)

/* ---- resize, gc: with the image open for writing ---- */

static int with_image(const struct args *a, int (*work)(const struct args *, struct lsvd_image *))
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_image *img;
	struct lsvd_ctx *ctx;
	int rc, closed;

	rc = cli_open_ctx(&a->w.open, CLI_POOL, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = cli_open_image(&a->w.open, ctx, a->w.word[0], &img);
	if (rc == CLI_OK) {
		rc = work(a, img);
		closed = lsvd_image_close(img, why);
		if (closed < 0)
			rc = cli_told(why, closed);
	}
	lsvd_ctx_close(ctx);
	return rc;
}

static const struct argp_option resize_options[] = {
	{"force", OPT_FORCE, NULL, 0, "shrink although there is data beyond the new end", 0},
	{0}};
PARSER_FOR(cli_write_kids, resize_argp, resize_options, "IMAGE SIZE",
	"Grow or shrink an image.\v"
	"example: lsvd resize file:/srv/vols/vm1 20G");

static int do_resize(const struct args *a, struct lsvd_image *img)
{
	char why[LSVD_ERR_MAX] = "";
	int rc = lsvd_image_resize(img, a->size_bytes, a->force, why);

	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

static int run_resize(int argc, char **argv)
{
	struct args a = {.w = {.min = 2, .max = 2, .writes = true}};

	if (argp_parse(&resize_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	if (cli_parse_size(a.w.word[1], &a.size_bytes) < 0) {
		cli_fail("resize: '%s' is not a size", a.w.word[1]);
		return CLI_USAGE;
	}
	return with_image(&a, do_resize);
}
CLI_COMMAND(resize, "grow or shrink an image", run_resize)

static const struct argp_option gc_options[] = {
	{"target", OPT_TARGET, "PERCENT", 0,
		"stop when this share of the stored bytes is live (90)", 0},
	{0}};
PARSER_FOR(cli_write_kids, gc_argp, gc_options, "IMAGE",
	"Collect garbage: rewrite what is live of the emptiest objects and delete them.\v"
	"example: lsvd gc file:/srv/vols/vm1 --target 80");

static int do_gc(const struct args *a, struct lsvd_image *img)
{
	struct lsvd_image_info before, after;
	struct lsvd_stats st;
	int rc = lsvd_image_info(img, &before);

	if (rc == 0)
		rc = lsvd_image_gc(img, a->target_percent);
	if (rc == 0)
		rc = lsvd_image_stats(img, &st);
	if (rc == 0)
		rc = lsvd_image_info(img, &after);
	if (rc < 0)
		return cli_fail("%s: %s", a->w.word[0], strerror(-rc));
	if (a->w.open.json)
		cli_print_json(json_pack("{so,so,sI,sI}", "before", info_json(&before), "after",
			info_json(&after), "moved_bytes", (json_int_t)st.gc_bytes,
			"collected_objects", (json_int_t)st.gc_objects));
	else
		printf("%s: %u %% of %s live, now %u %% of %s; %llu objects collected, %s moved\n",
			a->w.word[0], live_percent(&before), cli_size(before.stored_bytes),
			live_percent(&after), cli_size(after.stored_bytes),
			(unsigned long long)st.gc_objects, cli_size(st.gc_bytes));
	return CLI_OK;
}

static int run_gc(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1, .writes = true}, .target_percent = 90};

	if (argp_parse(&gc_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	return with_image(&a, do_gc);
}
CLI_COMMAND(gc, "collect garbage in an image", run_gc)
