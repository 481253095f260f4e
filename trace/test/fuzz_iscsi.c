/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_iscsi.c - any bytes as a conversation in iSCSI; see fuzz_wire.h. */
#include "trace/test/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_wire(&wire_iscsi, data, size);
}
