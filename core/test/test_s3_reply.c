/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_s3_reply.c - what is believed of S3's answers, and what is not. */
#include "store/s3_reply.h"
#include "test/test.h"

#include <errno.h>

#define HEAD                                                             \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult " \
	"xmlns=\"http://x/\"><Name>b</Name>"
#define END "</ListBucketResult>"
#define LAST "<IsTruncated>false</IsTruncated>"
#define KEY(name, size) \
	"<Contents><Key>" name "</Key><ETag>&quot;1&quot;</ETag><Size>" size "</Size></Contents>"

/* "name:size " for each, or NULL when it is no page; fed in pieces of every length. */
static const char *page(const char *xml)
{
	static char out[1000];
	size_t len = strlen(xml);

	for (size_t piece = 1; piece <= len || piece == 1; piece += piece < 8 ? 1 : len / 3) {
		struct s3_page p = {.truncated = false};
		size_t n = 0;
		int rc;

		assert_int_equal(s3_reply_load(NULL), 0);
		assert_int_equal(s3_page_begin(&p, "pre/"), 0);
		for (size_t at = 0; at < len; at += piece)
			s3_page_feed(&p, xml + at, len - at < piece ? len - at : piece);
		rc = s3_page_end(&p);
		out[0] = 0;
		for (size_t i = 0; i < p.entries; i++)
			n += (size_t)snprintf(out + n, sizeof(out) - n, "%s:%llu ", p.entry[i].name,
				(unsigned long long)p.entry[i].size);
		if (rc == 0 && p.truncated)
			snprintf(out + n, sizeof(out) - n, "then %s", p.token);
		s3_page_free(&p);
		if (rc) {
			assert_int_equal(rc, -EUCLEAN);
			return NULL;
		}
	}
	return out;
}

TEST(pages)
{
	assert_string_equal(page(HEAD LAST END), "");
	assert_string_equal(
		page(HEAD LAST KEY("pre/a/1", "5") KEY("pre%2Fa%2F2", "0") END), "a/1:5 a/2:0 ");
	assert_string_equal(
		page(HEAD KEY("pre/a/1",
			"5") "<IsTruncated>true</IsTruncated>"
			     "<NextContinuationToken>a&amp;b</NextContinuationToken>" END),
		"a/1:5 then a&b");
	/* what else may lie there */
	assert_string_equal(page(HEAD LAST KEY("pre/.lock/a", "5") KEY("pre/a/b/c", "1")
					    KEY("other/a/1", "1") KEY("pre/a/x%20y", "1")
						    KEY("pre/a/%zz", "1") KEY("pre/a", "1") END),
		"");
	/* elements nobody knows, and keys of other things */
	assert_string_equal(page(HEAD "<Owner><Contents><Key>pre/a/1</Key></Contents></Owner>" LAST
				      "<CommonPrefixes><Prefix>x</Prefix></CommonPrefixes>" END),
		"");
}

TEST(what_is_no_page)
{
	static const char *const bad[] = {"", "x", HEAD LAST, HEAD END, "<Other>" LAST "</Other>",
		HEAD LAST KEY("pre/a/1", "") END, HEAD LAST KEY("pre/a/1", "-1") END,
		HEAD LAST KEY("pre/a/1", "5x") END,
		HEAD LAST KEY("pre/a/1", "99999999999999999999") END,
		HEAD LAST "<Contents><Key>pre/a/1</Key></Contents>" END,
		HEAD LAST "<Contents><Size>1</Size></Contents>" END,
		HEAD "<IsTruncated>true</IsTruncated>" END,
		HEAD "<IsTruncated>maybe</IsTruncated>" END, HEAD LAST END "<More/>",
		HEAD LAST "&unknown;" END, HEAD LAST "<a></b>" END,
		"<!DOCTYPE x><ListBucketResult>" LAST END,
		"<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult>" LAST END};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (page(bad[i]))
			fail_msg("taken for a page: %s", bad[i]);
}

TEST(long_texts_and_deep_trees)
{
	char *xml = malloc(1 << 20);
	size_t n = (size_t)sprintf(xml, HEAD LAST "<Contents><Key>pre/a/");

	memset(xml + n, 'k', 5000);
	n += 5000;
	n += (size_t)sprintf(xml + n, "</Key><Size>1</Size></Contents>" KEY("pre/a/1", "1"));
	for (int i = 0; i < 300; i++)
		n += (size_t)sprintf(xml + n, "<deep>");
	n += (size_t)sprintf(xml + n, KEY("pre/a/2", "1"));
	for (int i = 0; i < 300; i++)
		n += (size_t)sprintf(xml + n, "</deep>");
	sprintf(xml + n, KEY("pre/a/3", "1") END);
	assert_string_equal(page(xml), "a/1:1 a/3:1 ");
	free(xml);
}

static void note(struct s3_deleted *d, const char *name, const char *code)
{
	snprintf(d->arg, 100, "%s %s", name, code);
}

static int deleted(const char *xml, char heard[100])
{
	struct s3_deleted d = {.prefix = "pre/", .arg = heard, .failed = note};

	heard[0] = 0;
	assert_int_equal(s3_reply_load(NULL), 0);
	assert_int_equal(s3_deleted_begin(&d), 0);
	s3_deleted_feed(&d, xml, strlen(xml));
	return s3_deleted_end(&d);
}

TEST(results_of_deletes)
{
	char heard[100];

	assert_int_equal(deleted("<DeleteResult/>", heard), 0);
	assert_string_equal(heard, "");
	assert_int_equal(
		deleted("<DeleteResult><Deleted><Key>pre/a/1</Key></Deleted></DeleteResult>",
			heard),
		0);
	assert_string_equal(heard, "");
	assert_int_equal(deleted("<DeleteResult><Error><Code>Oops</Code><Key>pre/a/1</Key></"
				 "Error></DeleteResult>",
				 heard),
		0);
	assert_string_equal(heard, "a/1 Oops");
	assert_int_equal(
		deleted("<DeleteResult><Error><Code>Oops</Code></Error></DeleteResult>", heard),
		-EUCLEAN);
	assert_int_equal(deleted("<DeleteResult>", heard), -EUCLEAN);
	assert_int_equal(deleted("<Else/>", heard), -EUCLEAN);
}

TEST(errors)
{
	static const char xml[] =
		"<Error><Code>No Such\n</Code><Message>a\tb</Message><Region>eu</Region></Error>";
	struct s3_fault f;

	assert_int_equal(s3_reply_load(NULL), 0);
	s3_fault_read(&f, xml, strlen(xml));
	assert_string_equal(f.code, "No?Such?");
	assert_string_equal(f.message, "a b");
	assert_string_equal(f.region, "eu");
	s3_fault_read(&f, "<html>", 6);
	assert_string_equal(f.code, "");
	s3_fault_read(&f, "", 0);
	assert_string_equal(f.code, "");
}
