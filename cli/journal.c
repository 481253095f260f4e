/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * journal.c - `lsvd journal list|replay|discard`: what the pool holds of images that were not
 * closed, or that somebody else took.
 *
 * The pool knows volumes by uuid; which image that is, and whether its store has what the journal
 * has, is only known when the image, or its store, is named.
 */
#include "cli/words.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_YES = 'y' };

struct args {
	struct cli_words w;
	bool yes; /* discard */
};

/* ---- which image is it? ---- */

struct known {
	struct lsvd_image_info *info;
	unsigned n;
};

static int note_image(struct known *k, struct lsvd_ctx *ctx, const char *url, char *why)
{
	struct lsvd_image_info *p = realloc(k->info, (k->n + 1) * sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	k->info = p;
	rc = lsvd_image_stat(ctx, url, &p[k->n], why);
	k->n += rc == 0;
	return rc;
}

struct names {
	char name[CLI_WORDS_MAX * 16][65];
	unsigned n;
};

static int note_name(void *arg, const char *name)
{
	struct names *l = arg;

	snprintf(l->name[l->n++], sizeof(l->name[0]), "%s", name);
	return l->n == sizeof(l->name) / sizeof(l->name[0]);
}

/* All images of a store; one that cannot be read is nobody's journal that we could name. */
static int note_store(struct known *k, struct lsvd_ctx *ctx, const char *url, char *why)
{
	struct names *l = calloc(1, sizeof(*l));
	char image[700];
	int rc = l ? lsvd_image_list(ctx, url, note_name, l, why) : -ENOMEM;

	for (unsigned i = 0; rc == 0 && i < l->n; i++) {
		const char *sep = url[0] && strchr(":/", url[strlen(url) - 1]) ? "" : "/";

		snprintf(image, sizeof(image), "%s%s%s", url, sep, l->name[i]);
		if (note_image(k, ctx, image, NULL) == -ENOMEM)
			rc = -ENOMEM;
	}
	free(l);
	return rc;
}

/* Each word is an image, or else a store. */
static int learn(const struct cli_words *a, struct known *k)
{
	char why[LSVD_ERR_MAX] = "", why2[LSVD_ERR_MAX];
	struct lsvd_ctx *ctx;
	int rc;

	if (!a->words)
		return CLI_OK;
	rc = cli_open_ctx(&a->open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	for (unsigned i = 0; rc == 0 && i < a->words; i++) {
		rc = note_image(k, ctx, a->word[i], why);
		if (rc == -ENOENT || rc == -EINVAL)
			rc = note_store(k, ctx, a->word[i], why2) < 0 ? rc : 0;
	}
	lsvd_ctx_close(ctx);
	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

static const struct lsvd_image_info *find(const struct known *k, const char *uuid)
{
	for (unsigned i = 0; i < k->n; i++)
		if (!strcmp(k->info[i].uuid, uuid))
			return &k->info[i];
	return NULL;
}

/* What is known of the journal's worth. */
static const char *state(const struct lsvd_journal_info *j, const struct lsvd_image_info *i)
{
	if (!i)
		return "unknown";
	if (j->epoch != i->epoch)
		return "old";
	return i->clean || j->last_record <= i->covered ? "covered" : "dirty";
}

/* ---- list ---- */

struct listing {
	const struct known *known;
	json_t *out;
	const char *uuid; /* only this one; NULL: all */
	struct lsvd_journal_info found;
	unsigned n;
};

static json_t *to_json(const struct lsvd_journal_info *j, const struct lsvd_image_info *i)
{
	json_t *o = json_pack("{ss,sI,sI,sI,sI,sI,sI,ss}", "uuid", j->uuid, "epoch",
		(json_int_t)j->epoch, "segments", (json_int_t)j->segments, "records",
		(json_int_t)j->records, "bytes", (json_int_t)j->bytes, "first_record",
		(json_int_t)j->first_record, "last_record", (json_int_t)j->last_record, "state",
		state(j, i));

	if (i) {
		json_object_set_new(o, "image", json_string(i->url));
		json_object_set_new(o, "image_epoch", json_integer((json_int_t)i->epoch));
		json_object_set_new(o, "image_clean", json_boolean(i->clean));
		json_object_set_new(o, "covered_record", json_integer((json_int_t)i->covered));
	}
	return o;
}

static void print_one(const struct lsvd_journal_info *j, const struct lsvd_image_info *i)
{
	printf("%s  epoch %" PRIu64 "  records %" PRIu64 " (%" PRIu64 " to %" PRIu64 ")  %s  %s",
		j->uuid, j->epoch, j->records, j->first_record, j->last_record, cli_size(j->bytes),
		state(j, i));
	if (i && j->epoch != i->epoch)
		printf("  %s is at epoch %" PRIu64 ", %s", i->url, i->epoch, i->last_writer);
	else if (i)
		printf("  %s", i->url);
	putchar('\n');
}

static int list_one(void *arg, const struct lsvd_journal_info *j)
{
	struct listing *l = arg;
	const struct lsvd_image_info *i = find(l->known, j->uuid);

	if (l->uuid && strcmp(l->uuid, j->uuid))
		return 0;
	l->found = *j;
	l->n++;
	if (l->out)
		json_array_append_new(l->out, to_json(j, i));
	else if (!l->uuid)
		print_one(j, i);
	return 0;
}

static const struct argp list_argp = {.parser = cli_words_parse,
	.args_doc = "[IMAGE|STORE-URL]...",
	.doc = "List the journals that the pool holds of images that were not closed, with what "
	       "their "
	       "records are worth: covered, all of it is in the store; dirty, replaying it brings "
	       "in "
	       "what is not; old, another writer took the image since; unknown, the image was not "
	       "named.\v"
	       "example: lsvd journal list file:/srv/vols",
	.children = cli_kids};

/* A pool that is not there is not made for this. */
static int open_pool(const struct cli_words *a, struct lsvd_ctx **ctx)
{
	return cli_open_ctx(&a->open, CLI_POOL_IF_THERE, LSVD_DRIVE_INLINE, ctx);
}

static int journal_list(int argc, char **argv)
{
	struct cli_words a = {.max = CLI_WORDS_MAX};
	struct known known = {0};
	struct listing l = {.known = &known};
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&list_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = learn(&a, &known);
	if (rc == CLI_OK)
		rc = open_pool(&a, &ctx);
	if (rc == CLI_OK) {
		l.out = a.open.json ? json_array() : NULL;
		rc = lsvd_journal_list(ctx, list_one, &l, why);
		lsvd_ctx_close(ctx);
		if (rc < 0)
			rc = cli_told(why, rc);
		else if (l.out)
			cli_print_json(json_incref(l.out));
		json_decref(l.out);
	}
	free(known.info);
	return rc;
}

/* ---- replay ---- */

static const struct argp replay_argp = {.parser = cli_words_parse,
	.args_doc = "IMAGE",
	.doc = "Bring what the pool's journal holds of an image into its store, and close it.  The "
	       "journal of a writer that lost the image is taken, too, if nobody has written to it "
	       "since.\v"
	       "example: lsvd journal replay file:/srv/vols/vm1",
	.children = cli_kids};

static int replay(const struct cli_words *a, struct lsvd_ctx *ctx, struct lsvd_image_info *info)
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_image *img;
	int rc = lsvd_image_open(ctx, a->word[0], LSVD_OPEN_OLD_JOURNAL, &img, why);

	if (rc < 0)
		return cli_told(why, rc);
	lsvd_image_info(img, info);
	rc = lsvd_image_close(img, why);
	return rc < 0 ? cli_told(why, rc) : CLI_OK;
}

static int journal_replay(int argc, char **argv)
{
	struct cli_words a = {.min = 1, .max = 1};
	struct lsvd_image_info info;
	struct lsvd_ctx *ctx;
	int rc;

	if (argp_parse(&replay_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.open, CLI_POOL, LSVD_DRIVE_INLINE, &ctx);
	if (rc)
		return rc;
	rc = replay(&a, ctx, &info);
	lsvd_ctx_close(ctx);
	if (rc != CLI_OK)
		return rc;
	if (a.open.json)
		cli_print_json(json_pack("{ss,ss,sI}", "image", info.url, "uuid", info.uuid,
			"replayed_records", (json_int_t)info.replayed));
	else
		printf("%s: %" PRIu64 " records were brought into the store\n", a.word[0],
			info.replayed);
	return CLI_OK;
}

/* ---- discard ---- */

static const struct argp_option discard_options[] = {
	{"yes", OPT_YES, NULL, 0, "do it; without this it is only said what would be lost", 0},
	{0}};
static error_t parse_discard(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	if (key != OPT_YES)
		return cli_words_parse(key, arg, s);
	a->yes = true;
	return 0;
}

static const struct argp discard_argp = {.options = discard_options,
	.parser = parse_discard,
	.args_doc = "IMAGE|UUID",
	.doc = "Give up the journal that the pool holds of an image, or of the volume with this "
	       "uuid: what it holds and the store does not is lost.\v"
	       "example: lsvd journal discard file:/srv/vols/vm1 --yes",
	.children = cli_kids};

static bool is_uuid(const char *s)
{
	return strlen(s) == 36 && strspn(s, "0123456789abcdef-") == 36;
}

static void say_loss(const struct lsvd_journal_info *j, const struct lsvd_image_info *i)
{
	const char *what = state(j, i);

	if (!strcmp(what, "covered"))
		printf("%s: all %" PRIu64 " records are in the store; nothing is lost\n", j->uuid,
			j->records);
	else if (!strcmp(what, "dirty"))
		printf("%s: records %" PRIu64 " to %" PRIu64 " are not in the store, and lost\n",
			j->uuid,
			i->covered + 1 > j->first_record ? i->covered + 1 : j->first_record,
			j->last_record);
	else
		printf("%s: %" PRIu64 " records, %s, of epoch %" PRIu64
		       "; what of them is not in the store is lost\n",
			j->uuid, j->records, cli_size(j->bytes), j->epoch);
}

static int discard(const struct args *a, struct lsvd_ctx *ctx, struct listing *l)
{
	char why[LSVD_ERR_MAX] = "";
	int rc;

	l->out = a->w.open.json ? json_array() : NULL;
	rc = lsvd_journal_list(ctx, list_one, l, why);
	if (rc == 0 && !l->n) {
		snprintf(why, sizeof(why), "the pool has no journal of %s", a->w.word[0]);
		rc = -ENOENT;
	}
	if (rc == 0 && l->out)
		cli_print_json(json_pack(
			"{sO,sb}", "journal", json_array_get(l->out, 0), "discarded", a->yes));
	else if (rc == 0)
		say_loss(&l->found, find(l->known, l->uuid));
	if (rc == 0 && a->yes)
		rc = lsvd_journal_discard(ctx, l->uuid, why);
	json_decref(l->out);
	if (rc < 0)
		return cli_told(why, rc);
	return a->yes ? CLI_OK : cli_fail("nothing is discarded yet; add --yes");
}

static int journal_discard(int argc, char **argv)
{
	struct args a = {.w = {.min = 1, .max = 1}};
	struct known known = {0};
	struct listing l = {.known = &known};
	struct lsvd_ctx *ctx;
	int rc = CLI_OK;

	if (argp_parse(&discard_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	if (is_uuid(a.w.word[0]))
		l.uuid = a.w.word[0];
	else
		rc = learn(&a.w, &known);
	if (rc == CLI_OK && !l.uuid && known.n != 1)
		rc = cli_fail("'%s' is not an image, nor a uuid", a.w.word[0]);
	if (rc == CLI_OK && !l.uuid)
		l.uuid = known.info[0].uuid;
	if (rc == CLI_OK)
		rc = open_pool(&a.w, &ctx);
	if (rc == CLI_OK) {
		rc = discard(&a, ctx, &l);
		lsvd_ctx_close(ctx);
	}
	free(known.info);
	return rc;
}

static const struct cli_sub subs[] = {
	{"list", "what the pool holds", journal_list},
	{"replay", "bring it into the store", journal_replay},
	{"discard", "give it up", journal_discard},
	{NULL, NULL, NULL},
};

static int run_journal(int argc, char **argv)
{
	return cli_dispatch("journal", subs, argc, argv);
}
CLI_COMMAND(journal, "journals in the pool: list, replay, discard", run_journal)
