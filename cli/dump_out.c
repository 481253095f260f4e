/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dump_out.c - one structure as a line of JSON or as text.
 *
 *   superblock vm1/super
 *     uuid          59562e8c-...
 *     epochs
 *       epoch=1 first_seq=1
 *     !! checksum does not match
 */
#include "cli/dump.h"

#include "cli/store.h"
#include "format/block.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

json_t *dump_new(const char *structure, const char *where)
{
	return json_pack("{ss,ss}", "structure", structure, "where", where);
}

/* JSON's integers are signed in jansson: what does not fit is text. */
void dump_int(json_t *x, const char *key, uint64_t value)
{
	char text[32];

	if (value <= INT64_MAX) {
		json_object_set_new(x, key, json_integer((json_int_t)value));
		return;
	}
	snprintf(text, sizeof(text), "%" PRIu64, value);
	json_object_set_new(x, key, json_string(text));
}

/* Bytes from a disk need not be UTF-8. */
void dump_text(json_t *x, const char *key, const char *value)
{
	json_t *s = json_string(value);

	if (!s) {
		char clean[256];
		size_t i = 0;

		for (; value[i] && i < sizeof(clean) - 1; i++)
			clean[i] = value[i] >= ' ' && value[i] < 127 ? value[i] : '?';
		clean[i] = 0;
		s = json_string(clean);
	}
	json_object_set_new(x, key, s);
}

void dump_uuid(json_t *x, const char *key, const uint8_t uuid[16])
{
	json_object_set_new(x, key, json_string(cli_uuid(uuid)));
}

void dump_time(json_t *x, const char *key, uint64_t wall_ns)
{
	time_t t = (time_t)(wall_ns / 1000000000u);
	char text[64] = "?", day[40];
	struct tm tm;

	if (!wall_ns)
		snprintf(text, sizeof(text), "never");
	else if (gmtime_r(&t, &tm) && strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(text, sizeof(text), "%s.%09uZ", day, (unsigned)(wall_ns % 1000000000u));
	json_object_set_new(x, key, json_string(text));
}

void dump_problem(struct dump *d, json_t *x, const char *fmt, ...)
{
	json_t *list = json_object_get(x, "problems");
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!list) {
		list = json_array();
		json_object_set_new(x, "problems", list);
	}
	json_array_append_new(list, json_string(text));
	d->problems++;
}

void dump_err(struct dump *d, json_t *x, int rc, const struct err *e)
{
	dump_problem(d, x, "%s", err_text(e, rc));
}

void dump_reseal(struct dump *d, json_t *x, void *buf, uint64_t len, uint64_t crc_at)
{
	uint32_t stored, should;

	if (len < crc_at + 4 || block_sealed(buf, len, crc_at))
		return;
	memcpy(&stored, (uint8_t *)buf + crc_at, 4);
	block_seal(buf, len, crc_at);
	memcpy(&should, (uint8_t *)buf + crc_at, 4);
	dump_problem(d, x, "checksum does not match: %08x is stored, the bytes have %08x",
		le32toh(stored), le32toh(should));
}

/* ---- text ---- */

static void put_scalar(FILE *f, const json_t *v)
{
	if (json_is_string(v))
		fputs(json_string_value(v), f);
	else if (json_is_integer(v))
		fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else
		fputs(json_is_true(v) ? "yes" : "no", f);
}

static void put_row(FILE *f, json_t *row)
{
	const char *key, *sep = "";
	json_t *v;

	json_object_foreach(row, key, v)
	{
		if (json_is_array(v) || !strcmp(key, "structure") || !strcmp(key, "where"))
			continue;
		fprintf(f, "%s%s=", sep, key);
		put_scalar(f, v);
		sep = " ";
	}
	fputc('\n', f);
}

static void put_list(FILE *f, const char *key, json_t *list)
{
	json_t *v;
	size_t i;

	fprintf(f, "  %s\n", key);
	json_array_foreach(list, i, v)
	{
		fputs("    ", f);
		if (json_is_object(v)) {
			put_row(f, v);
		} else {
			put_scalar(f, v);
			fputc('\n', f);
		}
	}
}

static void put_problems(FILE *f, json_t *x)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(x, "problems"), i, v)
		fprintf(f, "  !! %s\n", json_string_value(v));
}

static void put_lists(FILE *f, json_t *x)
{
	const char *key;
	json_t *v;

	json_object_foreach(x, key, v) if (json_is_array(v) && strcmp(key, "problems"))
		put_list(f, key, v);
	put_problems(f, x);
}

static void put_text(FILE *f, json_t *x)
{
	const char *key;
	json_t *v;

	fprintf(f, "%s %s\n", json_string_value(json_object_get(x, "structure")),
		json_string_value(json_object_get(x, "where")));
	json_object_foreach(x, key, v)
	{
		if (json_is_array(v) || !strcmp(key, "structure") || !strcmp(key, "where"))
			continue;
		fprintf(f, "  %-18s ", key);
		put_scalar(f, v);
		fputc('\n', f);
	}
	put_lists(f, x);
}

static void emit(struct dump *d, json_t *x, bool row)
{
	d->structures++;
	if (d->json) {
		json_dumpf(x, d->out, JSON_COMPACT);
		fputc('\n', d->out);
	} else if (row) {
		fprintf(d->out, "%s ", json_string_value(json_object_get(x, "structure")));
		put_row(d->out, x);
		put_lists(d->out, x);
	} else {
		put_text(d->out, x);
	}
	json_decref(x);
}

void dump_emit(struct dump *d, json_t *x)
{
	emit(d, x, false);
}
void dump_emit_row(struct dump *d, json_t *x)
{
	emit(d, x, true);
}
