/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json.c - the codec of a result file, with one validator for reading and writing.
 *
 * The reader walks the value with a `struct at`: the file, and the place inside it, so that every
 * refusal reads `FILE: figures[3].median: is 12, but the median of the samples is 11`.
 * All keys but "?optional" ones are required and no others are known, so a misspelt key is never
 * silently ignored.
 */
#include "results/json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct at {
	const char *file;
	char place[80]; /* "figures[3]", "machine", or "" for the top */
	struct err *e;
};

static int PRINTF(3, 4) bad(const struct at *at, const char *key, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(at->e, -EUCLEAN, "%.120s: %s%s%.60s: %s", at->file, at->place,
		at->place[0] && key[0] ? "." : "", key, what);
}

static const char *type_name(const json_t *v)
{
	static const char *const names[] = {"an object", "an array", "a string", "a number",
		"a number", "true", "false", "null"};

	return v ? names[json_typeof(v)] : "missing";
}

/* obj is an object with exactly the keys of the NULL-terminated list; those written with a '?' may
 * be absent. */
static int check_keys(const struct at *at, json_t *obj, const char *const *keys)
{
	const char *key;
	json_t *v;

	if (!json_is_object(obj))
		return bad(at, "", "must be an object, is %s", type_name(obj));
	json_object_foreach(obj, key, v)
	{
		const char *const *k = keys;

		while (*k && strcmp(*k + (**k == '?'), key))
			k++;
		if (!*k)
			return bad(at, key, "unknown key");
	}
	for (; *keys; keys++)
		if (**keys != '?' && !json_object_get(obj, *keys))
			return bad(at, *keys, "missing");
	return 0;
}

static int get_string(const struct at *at, json_t *obj, const char *key, char *buf, size_t size)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_string(v))
		return bad(at, key, "must be a string, is %s", type_name(v));
	if (!json_string_length(v))
		return bad(at, key, "is empty");
	if (json_string_length(v) >= size)
		return bad(at, key, "is longer than %zu bytes", size - 1);
	memcpy(buf, json_string_value(v), json_string_length(v) + 1);
	return 0;
}

static int get_positive(const struct at *at, json_t *obj, const char *key, int64_t *out)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_integer(v))
		return bad(at, key, "must be an integer, is %s", type_name(v));
	*out = json_integer_value(v);
	return *out > 0 ? 0 : bad(at, key, "must be above 0, is %lld", (long long)*out);
}

static int get_real(const struct at *at, json_t *obj, const char *key, double *out)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_number(v))
		return bad(at, key, "must be a number, is %s", type_name(v));
	*out = json_number_value(v);
	return 0;
}

static int get_time(const struct at *at, json_t *obj, int64_t *out)
{
	char text[32], again[32];
	struct tm tm = {0};
	const char *end;
	time_t t;
	int rc = get_string(at, obj, "time", text, sizeof(text));

	if (rc)
		return rc;
	end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	t = end && !*end ? timegm(&tm) : -1;
	if (t < 0 || !gmtime_r(&t, &tm) ||
		!strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%SZ", &tm) || strcmp(text, again))
		return bad(at, "time", "'%s' is not a UTC time like 2026-11-22T17:00:00Z", text);
	*out = t;
	return 0;
}

static int get_commit(const struct at *at, json_t *obj, struct results *r)
{
	int rc = get_string(at, obj, "commit", r->commit, sizeof(r->commit));

	if (rc)
		return rc;
	if (strlen(r->commit) < 7 || r->commit[strspn(r->commit, "0123456789abcdef")])
		return bad(at, "commit", "'%s' is not 7 to 40 hex digits", r->commit);
	return 0;
}

/* The place of `text` in a NULL-terminated list of words. */
static int get_word(
	const struct at *at, json_t *obj, const char *key, const char *const *words, int *out)
{
	char text[32];
	int rc = get_string(at, obj, key, text, sizeof(text));

	if (rc)
		return rc;
	for (*out = 0; words[*out]; (*out)++)
		if (!strcmp(words[*out], text))
			return 0;
	return words[2] ? bad(at, key, "'%s' is not %s, %s or %s", text, words[0], words[1],
				  words[2])
			: bad(at, key, "'%s' is not %s or %s", text, words[0], words[1]);
}

bool results_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n && n <= RESULTS_NAME_MAX &&
	       !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.")] && name[0] != '.' &&
	       name[n - 1] != '.' && !strstr(name, "..");
}

bool results_unit_ok(const char *unit)
{
	size_t n = strlen(unit);

	for (const char *p = unit; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return n && n <= RESULTS_UNIT_MAX;
}

static int get_samples(const struct at *at, json_t *obj, struct results_figure *f)
{
	json_t *list = json_object_get(obj, "samples"), *v;
	size_t i;

	if (!json_is_array(list))
		return bad(at, "samples", "must be an array, is %s", type_name(list));
	if (!json_array_size(list))
		return bad(at, "samples", "is empty");
	if (json_array_size(list) > RESULTS_SAMPLES_MAX)
		return bad(at, "samples", "holds more than %d", RESULTS_SAMPLES_MAX);
	f->samples = calloc(json_array_size(list), sizeof(*f->samples));
	if (!f->samples)
		return err_set(at->e, -ENOMEM, "%s: no memory", at->file);
	json_array_foreach(list, i, v)
	{
		char key[32];

		snprintf(key, sizeof(key), "samples[%zu]", i);
		if (!json_is_number(v))
			return bad(at, key, "must be a number, is %s", type_name(v));
		f->samples[f->n++] = json_number_value(v);
	}
	return 0;
}

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static int check_summary(const struct at *at, json_t *obj, struct results_figure *f)
{
	struct stat_summary got;
	int rc;

	if ((rc = get_real(at, obj, "median", &got.median)) ||
		(rc = get_real(at, obj, "low", &got.low)) ||
		(rc = get_real(at, obj, "high", &got.high)) ||
		(rc = stat_summarize(f->samples, f->n, &f->sum)))
		return rc;
	if (!near(got.median, f->sum.median))
		return bad(at, "median", "is %s, but the median of the samples is %s",
			results_number(got.median), results_number(f->sum.median));
	if (!near(got.low, f->sum.low) || !near(got.high, f->sum.high))
		return bad(at, "low", "interval %s..%s, but the samples give %s..%s",
			results_number(got.low), results_number(got.high),
			results_number(f->sum.low), results_number(f->sum.high));
	return 0;
}

static const char *const figure_keys[] = {
	"name", "unit", "direction", "samples", "median", "low", "high", "params", NULL};
static const char *const directions[] = {"higher", "lower", "none", NULL};
static const char *const profiles[] = {"quick", "full", NULL};

static int decode_figure(const struct at *at, json_t *v, struct results *r)
{
	struct results_figure *f = &r->figures[r->nfigures];
	json_t *params;
	int rc, word;

	if ((rc = check_keys(at, v, figure_keys)) ||
		(rc = get_string(at, v, "name", f->name, sizeof(f->name))))
		return rc;
	if (!results_name_ok(f->name))
		return bad(at, "name", "'%s' is not of the form [a-z0-9_]+(.[a-z0-9_]+)*", f->name);
	if (results_find(r, f->name))
		return bad(at, "name", "'%s' is there twice", f->name);
	if ((rc = get_string(at, v, "unit", f->unit, sizeof(f->unit))))
		return rc;
	if (!results_unit_ok(f->unit))
		return bad(at, "unit", "'%s' has blanks or control characters", f->unit);
	params = json_object_get(v, "params");
	if (!json_is_object(params))
		return bad(at, "params", "must be an object, is %s", type_name(params));
	f->params = json_incref(params);
	r->nfigures++; /* from here on results_free() frees the figure */
	if ((rc = get_word(at, v, "direction", directions, &word)) || (rc = get_samples(at, v, f)))
		return rc;
	f->direction = (enum results_direction)word;
	return check_summary(at, v, f);
}

static int decode_figures(struct at *at, json_t *root, struct results *r)
{
	json_t *list = json_object_get(root, "figures"), *v;
	size_t i;
	int rc;

	if (!json_is_array(list))
		return bad(at, "figures", "must be an array, is %s", type_name(list));
	r->room = json_array_size(list);
	r->figures = calloc(r->room + 1, sizeof(*r->figures));
	if (!r->figures)
		return err_set(at->e, -ENOMEM, "%s: no memory", at->file);
	json_array_foreach(list, i, v)
	{
		snprintf(at->place, sizeof(at->place), "figures[%zu]", i);
		if ((rc = decode_figure(at, v, r)))
			return rc;
	}
	return 0;
}

static int get_numbers(
	const struct at *at, json_t *obj, const char *key, double **out, size_t *n)
{
	json_t *list = json_object_get(obj, key), *v;
	size_t i;

	if (!json_is_array(list))
		return bad(at, key, "must be an array, is %s", type_name(list));
	*n = json_array_size(list);
	*out = calloc(*n + 1, sizeof(**out));
	if (!*out)
		return err_set(at->e, -ENOMEM, "%s: no memory", at->file);
	json_array_foreach(list, i, v)
	{
		if (!json_is_number(v))
			return bad(at, key, "must hold numbers, holds %s", type_name(v));
		(*out)[i] = json_number_value(v);
	}
	return 0;
}

static int add_curve(const struct at *at, json_t *v, struct results *r, const struct results_curve *c,
	size_t ny)
{
	struct err why = {0};

	if (c->n != ny)
		return bad(at, "y", "has %zu numbers, x has %zu", ny, c->n);
	if (results_add_curve(r, c->name, c->x_unit, c->y_unit, c->x, c->y, c->n,
		    json_incref(json_object_get(v, "params")), &why))
		return bad(at, "", "%s", why.msg);
	return 0;
}

static int decode_curve(const struct at *at, json_t *v, struct results *r)
{
	static const char *const keys[] = {"name", "x_unit", "y_unit", "x", "y", "params", NULL};
	struct results_curve c = {0};
	size_t ny = 0;
	int rc;

	(void)((rc = check_keys(at, v, keys)) ||
		(rc = get_string(at, v, "name", c.name, sizeof(c.name))) ||
		(rc = get_string(at, v, "x_unit", c.x_unit, sizeof(c.x_unit))) ||
		(rc = get_string(at, v, "y_unit", c.y_unit, sizeof(c.y_unit))) ||
		(rc = get_numbers(at, v, "x", &c.x, &c.n)) ||
		(rc = get_numbers(at, v, "y", &c.y, &ny)) || (rc = add_curve(at, v, r, &c, ny)));
	free(c.x);
	free(c.y);
	return rc;
}

static int decode_curves(struct at *at, json_t *root, struct results *r)
{
	json_t *list = json_object_get(root, "curves"), *v;
	size_t i;
	int rc;

	if (!list)
		return 0;
	if (!json_is_array(list))
		return bad(at, "curves", "must be an array, is %s", type_name(list));
	json_array_foreach(list, i, v)
	{
		snprintf(at->place, sizeof(at->place), "curves[%zu]", i);
		if ((rc = decode_curve(at, v, r)))
			return rc;
	}
	return 0;
}

static int decode_machine(struct at *at, json_t *root, struct results_machine *m)
{
	static const char *const keys[] = {
		"cpu", "cores", "memory_bytes", "kernel", "disk", "filesystem", NULL};
	json_t *v = json_object_get(root, "machine");
	int rc;

	snprintf(at->place, sizeof(at->place), "machine");
	if ((rc = check_keys(at, v, keys)) ||
		(rc = get_string(at, v, "cpu", m->cpu, sizeof(m->cpu))) ||
		(rc = get_positive(at, v, "cores", &m->cores)) ||
		(rc = get_positive(at, v, "memory_bytes", &m->memory_bytes)) ||
		(rc = get_string(at, v, "kernel", m->kernel, sizeof(m->kernel))) ||
		(rc = get_string(at, v, "disk", m->disk, sizeof(m->disk))))
		return rc;
	return get_string(at, v, "filesystem", m->filesystem, sizeof(m->filesystem));
}

static int decode_versions(struct at *at, json_t *root, struct results *r)
{
	json_t *list = json_object_get(root, "versions"), *v;
	const char *key;

	snprintf(at->place, sizeof(at->place), "versions");
	if (!json_is_object(list))
		return bad(at, "", "must be an object, is %s", type_name(list));
	json_object_foreach(
		list, key, v) if (!json_is_string(v) || !json_string_length(v)) return bad(at, key,
		"must be a string that is not empty, is %s", type_name(v));
	json_object_update(r->versions, list);
	return 0;
}

static int decode(struct at *at, json_t *root, struct results *r)
{
	static const char *const keys[] = {"schema", "time", "commit", "dirty", "profile",
		"machine", "versions", "figures", "?curves", NULL};
	json_t *dirty = json_object_get(root, "dirty"), *schema = json_object_get(root, "schema");
	int rc, word;

	/* The version comes first: another version's keys are its own business. */
	if (json_is_integer(schema) && json_integer_value(schema) != RESULTS_SCHEMA)
		return err_set(at->e, -EPROTO, "%s: schema: version %lld, this build knows only %d",
			at->file, (long long)json_integer_value(schema), RESULTS_SCHEMA);
	if ((rc = check_keys(at, root, keys)))
		return rc;
	if (!json_is_integer(schema))
		return bad(at, "schema", "must be an integer, is %s", type_name(schema));
	if (!json_is_boolean(dirty))
		return bad(at, "dirty", "must be true or false, is %s", type_name(dirty));
	r->dirty = json_is_true(dirty);
	if ((rc = get_time(at, root, &r->time_s)) || (rc = get_commit(at, root, r)) ||
		(rc = get_word(at, root, "profile", profiles, &word)))
		return rc;
	r->profile = (enum results_profile)word;
	if ((rc = decode_machine(at, root, &r->machine)) || (rc = decode_versions(at, root, r)))
		return rc;
	at->place[0] = 0;
	rc = decode_figures(at, root, r);
	at->place[0] = 0;
	return rc ? rc : decode_curves(at, root, r);
}

int results_decode(json_t *root, const char *file, struct results **out, struct err *e)
{
	struct at at = {.file = file, .e = e};
	struct results *r = results_new();
	int rc = r ? decode(&at, root, r) : err_set(e, -ENOMEM, "%s: no memory", file);

	if (rc) {
		results_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

const char *results_direction_name(enum results_direction d)
{
	return directions[d];
}

const char *results_profile_name(enum results_profile p)
{
	return profiles[p];
}

double results_round(double v)
{
	char text[40];

	if (v == floor(v) && fabs(v) < 9e15)
		return v;
	snprintf(text, sizeof(text), "%.12g", v);
	return strtod(text, NULL);
}

static json_t *number(double v)
{
	v = results_round(v);
	return v == floor(v) && fabs(v) < 9e15 ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *numbers(const double *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, number(v[i]));
	return list;
}

json_t *results_encode_figure(const struct results_figure *f)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:O}", "name", f->name, "unit",
		f->unit, "direction", directions[f->direction], "samples",
		numbers(f->samples, f->n), "median",
		number(f->sum.median), "low", number(f->sum.low), "high", number(f->sum.high),
		"params", f->params);
}

static json_t *encode_curves(const struct results *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->ncurves; i++) {
		const struct results_curve *c = &r->curves[i];

		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s, s:o, s:o, s:O}", "name", c->name, "x_unit",
				c->x_unit, "y_unit", c->y_unit, "x", numbers(c->x, c->n), "y",
				numbers(c->y, c->n), "params", c->params));
	}
	return list;
}

json_t *results_encode(const struct results *r)
{
	const struct results_machine *m = &r->machine;
	json_t *figures = json_array(), *root;
	time_t t = (time_t)r->time_s;
	char when[32];
	struct tm tm;

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	for (size_t i = 0; i < r->nfigures; i++)
		json_array_append_new(figures, results_encode_figure(&r->figures[i]));
	root = json_pack("{s:i, s:s, s:s, s:b, s:s, s:{s:s, s:I, s:I, s:s, s:s, s:s}, s:O, s:o}",
		"schema", RESULTS_SCHEMA, "time", when, "commit", r->commit, "dirty", r->dirty,
		"profile", profiles[r->profile], "machine", "cpu", m->cpu, "cores",
		(json_int_t)m->cores, "memory_bytes", (json_int_t)m->memory_bytes, "kernel",
		m->kernel, "disk", m->disk, "filesystem", m->filesystem, "versions", r->versions,
		"figures", figures);
	if (root && r->ncurves)
		json_object_set_new(root, "curves", encode_curves(r));
	return root;
}
