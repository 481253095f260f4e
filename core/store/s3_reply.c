/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/s3_reply.h"

#include "store/impl.h"
#include "sys/dynlib.h"

#include <ctype.h>
#include <errno.h>
#include <expat.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	typeof(XML_ParserCreate) *create;
	typeof(XML_ParserFree) *free;
	typeof(XML_Parse) *parse;
	typeof(XML_SetUserData) *set_user_data;
	typeof(XML_SetElementHandler) *set_element;
	typeof(XML_SetCharacterDataHandler) *set_text;
	typeof(XML_SetStartDoctypeDeclHandler) *set_doctype;
	typeof(XML_StopParser) *stop;
} lib;

int s3_reply_load(struct err *e)
{
	static const struct dynlib_symbol symbols[] = {
		{"XML_ParserCreate", &lib.create},
		{"XML_ParserFree", &lib.free},
		{"XML_Parse", &lib.parse},
		{"XML_SetUserData", &lib.set_user_data},
		{"XML_SetElementHandler", &lib.set_element},
		{"XML_SetCharacterDataHandler", &lib.set_text},
		{"XML_SetStartDoctypeDeclHandler", &lib.set_doctype},
		{"XML_StopParser", &lib.stop},
		{NULL, NULL},
	};

	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool loaded; /* another store's thread may be using it */
	int rc;

	pthread_mutex_lock(&mutex);
	rc = loaded ? 0 : dynlib_load("libexpat.so.1", "libexpat1", symbols, e);
	loaded = rc == 0;
	pthread_mutex_unlock(&mutex);
	return rc;
}

/* ---- documents ---- */

static void bad(struct s3_xml *x)
{
	x->bad = true;
	lib.stop(x->parser, XML_FALSE);
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct s3_xml *x = arg;
	size_t n = strlen(name);

	(void)attributes;
	x->text_len = 0;
	x->cut = false;
	if (x->too_deep || x->path_len + n + 2 > sizeof(x->path)) {
		x->too_deep++;
		return;
	}
	if (x->path_len)
		x->path[x->path_len++] = '/';
	memcpy(x->path + x->path_len, name, n + 1);
	x->path_len += n;
}

static void on_end(void *arg, const XML_Char *name)
{
	struct s3_xml *x = arg;
	size_t n = strlen(name);

	if (x->too_deep) {
		x->too_deep--;
		return;
	}
	x->text[x->text_len] = 0;
	x->leaf(x, x->path, x->text);
	x->path_len -= n;
	if (x->path_len)
		x->path_len--;
	x->path[x->path_len] = 0;
	x->text_len = 0;
	x->cut = false;
}

static void on_text(void *arg, const XML_Char *text, int len)
{
	struct s3_xml *x = arg;
	size_t n = (size_t)len, room = sizeof(x->text) - 1 - x->text_len;

	if (n > room) {
		x->cut = true;
		n = room;
	}
	memcpy(x->text + x->text_len, text, n);
	x->text_len += n;
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system,
	const XML_Char *public, int internal)
{
	(void)name, (void)system, (void)public, (void)internal;
	bad(arg);
}

static int xml_begin(struct s3_xml *x, void (*leaf)(struct s3_xml *, const char *, const char *))
{
	XML_Parser p = lib.create("UTF-8");

	memset(x, 0, sizeof(*x));
	if (!p)
		return -ENOMEM;
	x->parser = p;
	x->leaf = leaf;
	lib.set_user_data(p, x);
	lib.set_element(p, on_start, on_end);
	lib.set_text(p, on_text);
	lib.set_doctype(p, on_doctype);
	return 0;
}

static bool xml_feed(struct s3_xml *x, const char *bytes, size_t len)
{
	while (!x->bad && len) {
		int n = len > 1 << 30 ? 1 << 30 : (int)len;

		if (lib.parse(x->parser, bytes, n, 0) != XML_STATUS_OK)
			x->bad = true;
		bytes += n;
		len -= (size_t)n;
	}
	return !x->bad;
}

static bool xml_end(struct s3_xml *x)
{
	bool ok =
		x->parser && !x->bad && lib.parse(x->parser, "", 0, 1) == XML_STATUS_OK && !x->bad;

	if (x->parser)
		lib.free(x->parser);
	x->parser = NULL;
	return ok;
}

/* ---- words ---- */

static bool number(const char *s, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)s[0]))
		return false;
	errno = 0;
	*out = strtoull(s, &end, 10);
	return !*end && !errno;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool s3_url_decode(const char *in, char *out, size_t room)
{
	size_t n = 0;

	for (; *in; in++) {
		char c = *in == '+' ? ' ' : *in;

		if (c == '%') {
			int hi = hex(in[1]), lo = hi < 0 ? -1 : hex(in[2]);

			if (lo < 0 || (hi | lo) == 0)
				return false;
			c = (char)(hi << 4 | lo);
			in += 2;
		}
		if (n + 1 >= room)
			return false;
		out[n++] = c;
	}
	out[n] = 0;
	return true;
}

/* The object a key of the bucket is, without the store's prefix; false: it is none of ours. */
static bool key_to_name(const char *key, const char *prefix, char out[STORE_NAME_MAX + 1])
{
	char plain[S3_TEXT_MAX];
	size_t n = strlen(prefix);

	if (!s3_url_decode(key, plain, sizeof(plain)) || strncmp(plain, prefix, n) ||
		strlen(plain + n) > STORE_NAME_MAX || !store_object_name_ok(plain + n))
		return false;
	memcpy(out, plain + n, strlen(plain + n) + 1);
	return true;
}

/* ---- lists ---- */

static void keep_entry(struct s3_page *p)
{
	if (p->entries == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		struct s3_entry *e = realloc(p->entry, room * sizeof(*e));

		if (!e) {
			bad(&p->xml);
			return;
		}
		p->entry = e;
		p->room = room;
	}
	p->entry[p->entries++] = p->now;
}

static void list_leaf(struct s3_xml *x, const char *path, const char *text)
{
	struct s3_page *p = container_of(x, struct s3_page, xml);

	if (!strcmp(path, "ListBucketResult/Contents/Key")) {
		p->has_key = true;
		p->foreign = x->cut || !key_to_name(text, p->prefix, p->now.name);
	} else if (!strcmp(path, "ListBucketResult/Contents/Size")) {
		p->has_size = true;
		if (x->cut || !number(text, &p->now.size))
			bad(x);
	} else if (!strcmp(path, "ListBucketResult/Contents")) {
		if (!p->has_key || !p->has_size)
			bad(x);
		else if (!p->foreign)
			keep_entry(p);
		p->has_key = p->has_size = false;
	} else if (!strcmp(path, "ListBucketResult/IsTruncated")) {
		p->told = true;
		p->truncated = !strcmp(text, "true");
		if (!p->truncated && strcmp(text, "false"))
			bad(x);
	} else if (!strcmp(path, "ListBucketResult/NextContinuationToken")) {
		if (x->cut)
			bad(x);
		memcpy(p->token, text, strlen(text) + 1);
	} else if (!strcmp(path, "ListBucketResult")) {
		p->whole = true;
	}
}

int s3_page_begin(struct s3_page *p, const char *prefix)
{
	p->prefix = prefix;
	p->entries = 0;
	p->truncated = p->whole = p->told = p->has_key = p->has_size = false;
	p->token[0] = 0;
	if (p->xml.parser)
		lib.free(p->xml.parser);
	return xml_begin(&p->xml, list_leaf);
}

bool s3_page_feed(struct s3_page *p, const char *bytes, size_t len)
{
	return xml_feed(&p->xml, bytes, len);
}

int s3_page_end(struct s3_page *p)
{
	if (!xml_end(&p->xml) || !p->whole || !p->told || (p->truncated && !p->token[0]))
		return -EUCLEAN;
	return 0;
}

void s3_page_free(struct s3_page *p)
{
	if (p->xml.parser)
		lib.free(p->xml.parser);
	free(p->entry);
	memset(p, 0, sizeof(*p));
}

/* ---- batches of deletes ---- */

static void deleted_leaf(struct s3_xml *x, const char *path, const char *text)
{
	struct s3_deleted *d = container_of(x, struct s3_deleted, xml);

	if (!strcmp(path, "DeleteResult/Error/Key")) {
		if (x->cut || !key_to_name(text, d->prefix, d->name))
			bad(x);
	} else if (!strcmp(path, "DeleteResult/Error/Code")) {
		snprintf(d->code, sizeof(d->code), "%.63s", text);
	} else if (!strcmp(path, "DeleteResult/Error")) {
		if (d->name[0])
			d->failed(d, d->name, d->code);
		else
			bad(x);
		d->name[0] = d->code[0] = 0;
	} else if (!strcmp(path, "DeleteResult")) {
		d->whole = true;
	}
}

int s3_deleted_begin(struct s3_deleted *d)
{
	d->whole = false;
	d->name[0] = d->code[0] = 0;
	if (d->xml.parser)
		lib.free(d->xml.parser);
	return xml_begin(&d->xml, deleted_leaf);
}

bool s3_deleted_feed(struct s3_deleted *d, const char *bytes, size_t len)
{
	return xml_feed(&d->xml, bytes, len);
}

int s3_deleted_end(struct s3_deleted *d)
{
	return xml_end(&d->xml) && d->whole ? 0 : -EUCLEAN;
}

void s3_deleted_free(struct s3_deleted *d)
{
	if (d->xml.parser)
		lib.free(d->xml.parser);
	d->xml.parser = NULL;
}

/* ---- errors ---- */

static void fault_leaf(struct s3_xml *x, const char *path, const char *text)
{
	struct s3_fault *f = container_of(x, struct s3_fault, xml);

	if (!strcmp(path, "Error/Code"))
		snprintf(f->code, sizeof(f->code), "%.63s", text);
	else if (!strcmp(path, "Error/Message"))
		snprintf(f->message, sizeof(f->message), "%.159s", text);
	else if (!strcmp(path, "Error/Region"))
		snprintf(f->region, sizeof(f->region), "%.63s", text);
}

void s3_fault_read(struct s3_fault *f, const char *bytes, size_t len)
{
	memset(f, 0, sizeof(*f));
	if (!len || xml_begin(&f->xml, fault_leaf))
		return;
	xml_feed(&f->xml, bytes, len);
	if (!xml_end(&f->xml) && !f->code[0])
		f->message[0] = f->region[0] = 0;
	for (char *c = f->message; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = ' ';
	for (char *c = f->code; *c; c++)
		if (!isalnum((unsigned char)*c))
			*c = '?';
}
