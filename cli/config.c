/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config.c - `lsvd config`: the effective values and where each came from. */
#include "cli/open.h"

#include <stdio.h>
#include <string.h>

struct args {
	struct cli_open open;
	const char *image;
	const char *key;
	bool help;
};

enum { OPT_IMAGE = 'i', OPT_LONG = 'l' };

static const struct argp_option options[] = {
	{"image", OPT_IMAGE, "IMAGE", 0, "as they are for this image", 0},
	{"long", OPT_LONG, NULL, 0, "with what each key means", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		return 0;
	case OPT_IMAGE:
		a->image = arg;
		return 0;
	case OPT_LONG:
		a->help = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->key)
			argp_error(s, "one key, or none for all");
		a->key = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[KEY]",
	.doc = "Print the effective configuration and where each value came from: default, a file, "
	       "an "
	       "image section of a file, or an option.\v"
	       "example: lsvd config --image file:/srv/vols/vm1 --set object.size=4M",
	.children = kids,
};

static void print_one(const struct args *a, struct lsvd_config *cfg, const char *key,
	const char *help, json_t *out)
{
	const char *origin, *value = lsvd_config_get(cfg, a->image, key, &origin);

	if (out) {
		json_object_set_new(out, key,
			json_pack("{ss,ss,ss}", "value", value, "origin", origin, "help", help));
	} else if (a->key) {
		printf("%s\n", value);
	} else {
		printf("%-20s %-28s %s\n", key, value, origin);
		if (a->help)
			printf("    %s\n", help);
	}
}

static int run(int argc, char **argv)
{
	struct args a = {0};
	struct lsvd_config *cfg;
	const char *key, *help;
	unsigned printed = 0;
	json_t *out = NULL;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_config(&a.open, &cfg);
	if (rc)
		return rc;
	if (a.open.json)
		out = json_object();
	for (size_t i = 0; (key = lsvd_config_key(i, &help)); i++) {
		if (a.key && strcmp(a.key, key))
			continue;
		print_one(&a, cfg, key, help, out);
		printed++;
	}
	if (printed == 0) {
		char why[LSVD_ERR_MAX];

		lsvd_config_set(
			cfg, a.key, "", why); /* for its message: it names the nearest key */
		json_decref(out);
		out = NULL;
		cli_fail("%s", why);
		rc = CLI_USAGE;
	}
	if (out)
		cli_print_json(out);
	lsvd_config_free(cfg);
	return rc;
}

CLI_COMMAND(config, "print the effective settings and where each came from", run)
