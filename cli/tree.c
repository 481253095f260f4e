/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tree.c - `lsvd tree STORE-URL`: images, their snapshots, and their clones below them. */
#include "cli/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	struct cli_open open;
	const char *store;
};

struct snap {
	uint64_t id;
	char name[64];
	bool automatic;
};

struct node {
	char *name;
	char base[80];
	uint64_t base_snapshot;
	struct snap *snap;
	unsigned nsnaps;
	bool printed, unreadable;
};

struct tree {
	struct lsvd_ctx *ctx;
	const char *store;
	struct node *node;
	size_t n, room;
};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		return 0;
	case ARGP_KEY_ARG:
		if (a->store)
			argp_error(s, "what is '%s'?", arg);
		a->store = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->store)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
static const struct argp argp = {.parser = parse,
	.args_doc = "STORE-URL",
	.doc = "Show which images of a store are clones of which: below each image its snapshots, "
	       "and below each snapshot the clones made of it.\v"
	       "example: lsvd tree file:/srv/vols",
	.children = kids};

/* ---- reading ---- */

static int add_node(void *arg, const char *name)
{
	struct tree *t = arg;

	if (t->n == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		void *more = realloc(t->node, room * sizeof(*t->node));

		if (!more)
			return -ENOMEM;
		t->node = more;
		t->room = room;
	}
	t->node[t->n] = (struct node){.name = strdup(name)};
	return t->node[t->n++].name ? 0 : -ENOMEM;
}

static int note_base(void *arg, const struct lsvd_base_info *b)
{
	struct node *x = arg;

	memcpy(x->base, b->name, sizeof(x->base));
	x->base_snapshot = b->snapshot;
	return 1; /* the nearest */
}

static int note_snapshot(void *arg, const struct lsvd_snapshot_info *s)
{
	struct node *x = arg;
	struct snap *more = realloc(x->snap, (x->nsnaps + 1) * sizeof(*more));

	if (!more)
		return 1;
	x->snap = more;
	x->snap[x->nsnaps] = (struct snap){.id = s->id, .automatic = s->automatic};
	memcpy(x->snap[x->nsnaps++].name, s->name, sizeof(s->name));
	return 0;
}

static void read_node(struct tree *t, struct node *x)
{
	size_t len = strlen(t->store);
	bool glue = len && (t->store[len - 1] == '/' || t->store[len - 1] == ':');
	char url[640], why[LSVD_ERR_MAX] = "";

	snprintf(url, sizeof(url), "%s%s%s", t->store, glue ? "" : "/", x->name);
	if (lsvd_base_list(t->ctx, url, note_base, x, why) < 0 ||
		lsvd_snapshot_list(t->ctx, url, note_snapshot, x, why) < 0) {
		x->unreadable = true;
		cli_fail("%s: %s", x->name, why);
	}
}

/* ---- printing ---- */

static void print_node(struct tree *t, struct node *x, unsigned depth);

static void print_clones(struct tree *t, const struct node *x, uint64_t snapshot, unsigned depth)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->node[i].printed && !strcmp(t->node[i].base, x->name) &&
			t->node[i].base_snapshot == snapshot)
			print_node(t, &t->node[i], depth);
}

static void print_node(struct tree *t, struct node *x, unsigned depth)
{
	x->printed = true;
	printf("%*s%s%s\n", (int)depth * 2, "", x->name, x->unreadable ? "  (unreadable)" : "");
	for (unsigned i = 0; i < x->nsnaps; i++) {
		printf("%*s@%s%s\n", (int)depth * 2 + 2, "", x->snap[i].name,
			x->snap[i].automatic ? "  (for clones)" : "");
		print_clones(t, x, x->snap[i].id, depth + 2);
	}
}

static const struct node *find(const struct tree *t, const char *name)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->node[i].name, name))
			return &t->node[i];
	return NULL;
}

static void print_tree(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->node[i].base[0] || !find(t, t->node[i].base))
			print_node(t, &t->node[i], 0);
	/* Whatever is left has lost its place. */
	for (size_t i = 0; i < t->n; i++)
		if (!t->node[i].printed)
			print_node(t, &t->node[i], 0);
}

static void print_json(const struct tree *t)
{
	json_t *out = json_array();

	for (size_t i = 0; i < t->n; i++) {
		const struct node *x = &t->node[i];
		json_t *snaps = json_array();

		for (unsigned k = 0; k < x->nsnaps; k++)
			json_array_append_new(snaps,
				json_pack("{sI,ss,sb}", "id", (json_int_t)x->snap[k].id, "name",
					x->snap[k].name, "automatic", x->snap[k].automatic));
		json_array_append_new(out,
			json_pack("{ss,ss,sI,so}", "name", x->name, "base", x->base,
				"base_snapshot", (json_int_t)x->base_snapshot, "snapshots", snaps));
	}
	cli_print_json(out);
}

static int run_tree(int argc, char **argv)
{
	struct args a = {0};
	char why[LSVD_ERR_MAX] = "";
	struct tree t = {0};
	bool bad = false;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = cli_open_ctx(&a.open, CLI_POOL_NONE, LSVD_DRIVE_INLINE, &t.ctx);
	if (rc)
		return rc;
	t.store = a.store;
	rc = lsvd_image_list(t.ctx, a.store, add_node, &t, why);
	for (size_t i = 0; rc == 0 && i < t.n; i++) {
		read_node(&t, &t.node[i]);
		bad = bad || t.node[i].unreadable;
	}
	if (rc < 0)
		rc = cli_fail("%s", why[0] ? why : strerror(-rc));
	else if (a.open.json)
		print_json(&t);
	else
		print_tree(&t);
	for (size_t i = 0; i < t.n; i++) {
		free(t.node[i].name);
		free(t.node[i].snap);
	}
	free(t.node);
	lsvd_ctx_close(t.ctx);
	return rc ? rc : bad ? CLI_FAILED : CLI_OK;
}
CLI_COMMAND(tree, "show images, their snapshots and clones", run_tree)
