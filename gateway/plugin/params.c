/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/plugin/params.h"
#include "gateway/plugin/say.h"
#include "gateway/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char params_help[] =
	"IMAGE                an image to serve, such as file:/srv/vols/vm1, as its name\n"
	"export=NAME=IMAGE    an image to serve, as NAME; any number, the first is the default\n"
	"store=URL            serve every image of this store, as its name\n"
	"pool=URL             the local pool, file:PATH or mem:SIZE (pool.path)\n"
	"config=FILE          read this configuration on top of the system's and the user's\n"
	"set=KEY=VALUE        set a key of the configuration; also as KEY=VALUE by itself\n"
	"control=SOCKET       listen here for `lsvd trace start` and `lsvd gateway`\n"
	"These belong to the export before them, or, before the first, to all:\n"
	"readonly=true        change nothing; needs no lock\n"
	"snapshot=NAME        the image as it was then, read-only\n"
	"trace=FILE           record every request; %n in it is the export's name\n"
	"keep-open=true       keep the image open after its last connection\n"
	"steal=true, no-journal=true   as the options of `lsvd`";

/* Interned, absolute. */
static const char *keep_text(char *text)
{
	const char *kept = text ? say_intern(text) : NULL;

	free(text);
	return kept;
}

static int parse_bool(const char *key, const char *value, bool *out, char *why)
{
	static const char *const yes[] = {"1", "true", "yes", "on", "t", "y"};
	static const char *const no[] = {"0", "false", "no", "off", "f", "n"};

	for (unsigned i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		*out = !strcasecmp(value, yes[i]);
		if (*out || !strcasecmp(value, no[i]))
			return 0;
	}
	return export_refuse(why, -EINVAL, "%s: '%.40s' is neither true nor false", key, value);
}

static int add_export(struct params *p, const char *name, const char *image, char *why)
{
	char *url = url_absolute(image);
	int rc = url ? export_add(p->gw, name, url, &p->gw->defaults, &p->scope, why) : -ENOMEM;

	free(url);
	return rc;
}

static int set_image(struct params *p, const char *value, char *why)
{
	const char *name = strrchr(value, '/');

	if (!name)
		name = strrchr(value, ':');
	if (!name || !name[1])
		return export_refuse(why, -EINVAL,
			"'%.200s' is not an image URL; write file:DIR/NAME, for example", value);
	return add_export(p, name + 1, value, why);
}

static int set_export(struct params *p, const char *value, char *why)
{
	const char *eq = strchr(value, '=');
	char name[256];

	if (!eq || eq == value || !eq[1] || eq - value > 255)
		return export_refuse(why, -EINVAL, "export: '%.200s' is not NAME=IMAGE", value);
	snprintf(name, sizeof(name), "%.*s", (int)(eq - value), value);
	return add_export(p, name, eq + 1, why);
}

static int set_store(struct params *p, const char *value, char *why)
{
	char *url;

	if (p->gw->store)
		return export_refuse(why, -EINVAL, "store: one is enough; export=NAME=IMAGE adds others");
	url = url_absolute(value);
	for (size_t n = url ? strlen(url) : 0; n > 1 && url[n - 1] == '/' && url[n - 2] != ':'; n--)
		url[n - 1] = 0;
	p->gw->store = keep_text(url);
	return p->gw->store ? 0 : -ENOMEM;
}

static int set_key(struct params *p, const char *pair, char *why)
{
	const char *eq = strchr(pair, '=');
	char key[64];

	if (!eq || eq == pair || eq - pair >= (int)sizeof(key))
		return export_refuse(why, -EINVAL, "set: '%.200s' is not KEY=VALUE", pair);
	snprintf(key, sizeof(key), "%.*s", (int)(eq - pair), pair);
	return lsvd_config_set(p->gw->cfg, key, eq + 1, why);
}

/* A key of the library. */
static int set_config(struct params *p, const char *key, const char *value, char *why)
{
	char *url = strcmp(key, "pool.path") ? strdup(value) : url_absolute(value);
	int rc = url ? lsvd_config_set(p->gw->cfg, key, url, why) : -ENOMEM;

	free(url);
	return rc;
}

static int load_config(struct params *p, const char *path, char *why)
{
	return lsvd_config_load(p->gw->cfg, path, why);
}

/* ---- what belongs to an export ---- */

static int set_trace(struct export_options *o, const char *value)
{
	o->trace = keep_text(path_absolute(value));
	return o->trace ? 0 : -ENOMEM;
}

static int set_snapshot(struct params *p, const char *value, char *why)
{
	struct export *x = p->scope;
	char *url;

	if (!x) {
		p->gw->defaults.snapshot = say_intern(value);
		return 0;
	}
	if (strchr(x->url, '@'))
		return export_refuse(why, -EINVAL, "export '%s' is a snapshot already", x->name);
	if (asprintf(&url, "%s@%s", x->url, value) < 0)
		return -ENOMEM;
	free(x->url);
	x->url = url;
	return 0;
}

/* 1: the key is none of these. */
static int set_option(struct params *p, const char *key, const char *value, char *why)
{
	struct export_options *o = p->scope ? &p->scope->opt : &p->gw->defaults;
	struct {
		const char *key;
		bool *value;
	} flags[] = {
		{"readonly", &o->readonly},
		{"keep-open", &o->keep_open},
		{"no-journal", &o->no_journal},
		{"steal", &o->steal},
	};

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (!strcmp(key, flags[i].key))
			return parse_bool(key, value, flags[i].value, why);
	if (!strcmp(key, "trace"))
		return set_trace(o, value);
	if (!strcmp(key, "snapshot"))
		return set_snapshot(p, value, why);
	return 1;
}

int params_set(struct params *p, const char *key, const char *value, char *why)
{
	int rc;

	why[0] = 0;
	if (!p->gw->cfg) {
		p->gw->cfg = lsvd_config_new(why);
		if (!p->gw->cfg)
			return -EINVAL;
	}
	if (!strcmp(key, "image"))
		return set_image(p, value, why);
	if (!strcmp(key, "export"))
		return set_export(p, value, why);
	if (!strcmp(key, "store"))
		return set_store(p, value, why);
	if (!strcmp(key, "pool"))
		return set_config(p, "pool.path", value, why);
	if (!strcmp(key, "config"))
		return load_config(p, value, why);
	if (!strcmp(key, "set"))
		return set_key(p, value, why);
	if (!strcmp(key, "control")) {
		p->control = keep_text(path_absolute(value));
		return p->control ? 0 : -ENOMEM;
	}
	rc = set_option(p, key, value, why);
	return rc == 1 ? set_config(p, key, value, why) : rc;
}

int params_check(struct params *p, char *why)
{
	const char *t = p->gw->defaults.trace;

	why[0] = 0;
	if (!p->gw->exports && !p->gw->store && !p->control)
		return export_refuse(why, -EINVAL,
			"what is to be served? Give an image, as in `nbdkit lsvd "
			"file:/srv/vols/vm1`, export=NAME=IMAGE, or store=URL");
	if (t && !strstr(t, "%n") && (p->gw->store || (p->gw->exports && p->gw->exports->next)))
		return export_refuse(why, -EINVAL,
			"trace=%s is one file for several exports; write %%n, the export's name, in it",
			t);
	/* They were held while they were being configured. */
	for (struct export *x = p->gw->exports; x; x = x->next)
		x->users = 0;
	return 0;
}
