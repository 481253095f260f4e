/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_nbd.c - any bytes as a conversation in NBD; see fuzz_wire.h. */
#include "trace/test/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_wire(&wire_nbd, data, size);
}
