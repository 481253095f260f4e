/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_results.c - any bytes as a file of results: an error with a message, or results that encode
 * and decode to the same JSON again. */
#include "results/json.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	json_t *root = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL), *once,
	       *twice;
	struct results *r = NULL, *again = NULL;
	struct err e = {.msg = ""};

	if (!root)
		return 0;
	if (results_decode(root, "fuzz", &r, &e) < 0) {
		assert(e.msg[0]);
		json_decref(root);
		return 0;
	}
	once = results_encode(r);
	assert(once && results_decode(once, "again", &again, &e) == 0);
	twice = results_encode(again);
	assert(json_equal(once, twice));
	json_decref(once);
	json_decref(twice);
	json_decref(root);
	results_free(r);
	results_free(again);
	return 0;
}
