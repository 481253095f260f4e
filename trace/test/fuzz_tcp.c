/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_tcp.c - any bytes as packets: a row of link type, length and missing bytes (a byte each),
 * and the captured bytes. */
#include "trace/capture.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(void *arg, const struct trace_record *r)
{
	(void)arg;
	if (!trace_record_ok(r) || (r->complete_ns && r->complete_ns < r->submit_ns))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int links[] = {PACKET_ETHERNET, PACKET_RAW, PACKET_SLL, PACKET_SLL2,
		PACKET_NULL, PACKET_LOOP, PACKET_IPV4, PACKET_IPV6};
	struct capture_options opt = {
		.ports = {{10809, &wire_nbd}, {3260, &wire_iscsi}, {4420, &wire_nvme}},
		.n_ports = 3,
		.unit = WIRE_ANY_UNIT,
		.request = request};
	struct capture *c;

	if (capture_new(&opt, &c) < 0)
		return 0;
	for (uint64_t t = 1; size >= 3; t += 10000000) {
		int link = links[data[0] % 8];
		size_t have = data[1], len = have + (size_t)data[2] * (data[0] & 128 ? 256 : 1);

		data += 3;
		size -= 3;
		have = have < size ? have : size;
		if (capture_packet(c, link, t, data, have, len) < 0)
			abort();
		data += have;
		size -= have;
	}
	capture_finish(c);
	capture_free(c);
	return 0;
}
