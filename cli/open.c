/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/open.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPT_POOL = 0x1000, OPT_CONFIG, OPT_SET, OPT_JSON, OPT_STEAL, OPT_NO_JOURNAL = 'n' };

static const struct argp_option options[] = {
	{"pool", OPT_POOL, "URL", 0, "local pool: file:PATH or mem:SIZE (the key pool.path)", 0},
	{"config", OPT_CONFIG, "FILE", 0,
		"read this configuration on top of the system's and the user's", 0},
	{"set", OPT_SET, "KEY=VALUE", 0, "set a configuration key; `lsvd config` lists them", 0},
	{"json", OPT_JSON, NULL, 0, "print JSON", 0},
	{"quiet", 'q', NULL, 0, "no progress", 0},
	{0},
};

static void keep(struct argp_state *s, int kind, const char *arg)
{
	struct cli_open *o = s->input;

	if (o->n == CLI_OPEN_OPTIONS)
		argp_error(s, "more than %d options", CLI_OPEN_OPTIONS);
	o->opts[o->n].kind = kind;
	o->opts[o->n++].arg = arg;
}

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct cli_open *o = s->input;

	switch (key) {
	case OPT_POOL:
		o->pool_given = true;
		keep(s, 'p', arg);
		return 0;
	case OPT_CONFIG:
		keep(s, 'c', arg);
		return 0;
	case OPT_SET:
		if (!strchr(arg, '='))
			argp_error(s, "--set wants KEY=VALUE");
		if (!strncmp(arg, "pool.path=", 10))
			o->pool_given = true;
		keep(s, 's', arg);
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option config_options[] = {
	{"config", OPT_CONFIG, "FILE", 0,
		"read this configuration on top of the system's and the user's", 0},
	{"set", OPT_SET, "KEY=VALUE", 0, "set a configuration key; `lsvd config` lists them", 0},
	{0},
};

const struct argp cli_config_argp = {.options = config_options, .parser = parse};
const struct argp cli_open_argp = {.options = options, .parser = parse};

static const struct argp_option write_options[] = {
	{"no-journal", OPT_NO_JOURNAL, NULL, 0,
		"open it although the journal of its last writer is not here: give up what is not "
		"in the store",
		0},
	{"steal", OPT_STEAL, NULL, 0,
		"take it over from a writer that has it; what that one writes from now on is never "
		"seen",
		0},
	{0},
};

static error_t parse_write(int key, char *arg, struct argp_state *s)
{
	struct cli_open *o = s->input;

	(void)arg;
	switch (key) {
	case OPT_STEAL:
		o->steal = true;
		return 0;
	case OPT_NO_JOURNAL:
		o->no_journal = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp cli_write_argp = {.options = write_options, .parser = parse_write};

static int apply(struct lsvd_config *cfg, int kind, const char *arg, char *why)
{
	char key[64];
	const char *eq;

	if (kind == 'c')
		return lsvd_config_load(cfg, arg, why);
	if (kind == 'p')
		return lsvd_config_set(cfg, "pool.path", arg, why);
	eq = strchr(arg, '=');
	snprintf(key, sizeof(key), "%.*s", (int)(eq - arg), arg);
	return lsvd_config_set(cfg, key, eq + 1, why);
}

int cli_open_config(const struct cli_open *o, struct lsvd_config **out)
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_config *cfg = lsvd_config_new(why);

	if (!cfg)
		return cli_fail("%s", why);
	for (unsigned i = 0; i < o->n; i++)
		if (apply(cfg, o->opts[i].kind, o->opts[i].arg, why) < 0) {
			lsvd_config_free(cfg);
			cli_fail("%s", why);
			return o->opts[i].kind == 'c' ? CLI_FAILED : CLI_USAGE;
		}
	*out = cfg;
	return CLI_OK;
}

static bool in_memory(const struct cli_open *o, enum cli_pool pool, struct lsvd_config *cfg)
{
	const char *path = lsvd_config_get(cfg, NULL, "pool.path", NULL);

	switch (pool) {
	case CLI_POOL_IF_THERE:
		return !strncmp(path, "file:", 5) && access(path + 5, F_OK) < 0 && errno == ENOENT;
	case CLI_POOL_NOT_ASKED:
		return !o->pool_given;
	case CLI_POOL_NONE:
		return true;
	case CLI_POOL:
		break;
	}
	return false;
}

/* Small, but with room for the journal of an image that is being filled. */
static int use_memory(struct lsvd_config *cfg, enum cli_pool pool, char *why)
{
	static const char *const pairs[][2] = {
		{"pool.mirror", ""}, {"pool.segment", "4M"}, {"cache.enabled", "false"},
		{"cache.chunk", "1M"}, /* who reads without a cache reads much at once */
	};
	int rc = lsvd_config_set(
		cfg, "pool.path", pool == CLI_POOL_NONE ? "mem:8M" : "mem:256M", why);

	for (unsigned i = 0; rc == 0 && i < sizeof(pairs) / sizeof(pairs[0]); i++)
		rc = lsvd_config_set(cfg, pairs[i][0], pairs[i][1], why);
	return rc;
}

int cli_open_ctx(
	const struct cli_open *o, enum cli_pool pool, enum lsvd_drive drive, struct lsvd_ctx **ctx)
{
	char why[LSVD_ERR_MAX] = "";
	struct lsvd_config *cfg;
	int rc = cli_open_config(o, &cfg);

	if (rc)
		return rc;
	if (in_memory(o, pool, cfg))
		rc = use_memory(cfg, pool, why);
	if (rc == 0)
		rc = lsvd_ctx_open(cfg, drive, ctx, why);
	lsvd_config_free(cfg);
	return rc < 0 ? cli_fail("%s", why[0] ? why : strerror(-rc)) : CLI_OK;
}

static unsigned write_flags(const struct cli_open *o)
{
	return (o->steal ? LSVD_OPEN_STEAL : 0u) | (o->no_journal ? LSVD_OPEN_NO_JOURNAL : 0u);
}

static void tell_taken(struct lsvd_image *img)
{
	struct lsvd_image_info info;

	if (lsvd_image_info(img, &info) == 0 && info.taken_from[0])
		fprintf(stderr, "lsvd: image '%s' is taken over from %s\n", info.name,
			info.taken_from);
}

int cli_open_image(
	const struct cli_open *o, struct lsvd_ctx *ctx, const char *image, struct lsvd_image **img)
{
	char why[LSVD_ERR_MAX] = "";
	int rc = lsvd_image_open(ctx, image, write_flags(o), img, why);

	if (rc < 0)
		return cli_fail("%s%s", why[0] ? why : strerror(-rc),
			rc == -EBUSY && !o->steal ? "; --steal takes it over" : "");
	tell_taken(*img);
	return CLI_OK;
}

bool cli_needs_journal(const struct cli_open *o, const char *image)
{
	struct lsvd_image_info info;
	struct lsvd_ctx *ctx;
	bool needs = false;

	if (cli_open_ctx(o, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &ctx) == CLI_OK) {
		needs = lsvd_image_stat(ctx, image, &info, NULL) == 0 && !info.clean &&
			!info.snapshot[0];
		lsvd_ctx_close(ctx);
	}
	return needs;
}

enum cli_pool cli_pool_for_reading(const struct cli_open *o, const char *image)
{
	return cli_needs_journal(o, image) ? CLI_POOL_IF_THERE : CLI_POOL_NOT_ASKED;
}
