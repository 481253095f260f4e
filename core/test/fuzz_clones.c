/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_clones.c - any bytes as a list of clones: an error, or contents that encode to the same
 * bytes. */
#include "test/format_util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	sample_fuzz(SAMPLE_CLONES, data, len);
	return 0;
}
