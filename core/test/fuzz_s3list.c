/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_s3list.c - any bytes, in any pieces, as an answer of S3: a list, a result of deletes, an
 * error. What is taken for a page names objects only, and says where it goes on. */
#include "store/impl.h"
#include "store/s3_reply.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void failed(struct s3_deleted *d, const char *name, const char *code)
{
	(void)d;
	assert(store_object_name_ok(name) && strlen(code) < 64);
}

static void look_at(const struct s3_page *p)
{
	assert(!p->truncated || p->token[0]);
	for (size_t i = 0; i < p->entries; i++)
		assert(store_object_name_ok(p->entry[i].name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct s3_page page;
	static struct s3_fault fault;
	struct s3_deleted d = {.prefix = "p/", .failed = failed};
	size_t piece = len ? data[len - 1] % 32 + 1u : 1;
	const char *bytes = (const char *)data;

	assert(s3_reply_load(NULL) == 0);
	assert(s3_page_begin(&page, "p/") == 0 && s3_deleted_begin(&d) == 0);
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;

		if (!s3_page_feed(&page, bytes + at, n) && !s3_deleted_feed(&d, bytes + at, n))
			break;
	}
	if (s3_page_end(&page) == 0)
		look_at(&page);
	if (s3_deleted_end(&d) < 0)
		s3_deleted_free(&d);
	s3_fault_read(&fault, bytes, len);
	s3_page_free(&page);
	return 0;
}
