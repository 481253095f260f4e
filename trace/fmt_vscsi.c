/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_vscsi.c - CloudPhysics' traces of VMware's virtual SCSI disks, versions 1 and 2.
 *
 * Records of one size, little-endian; there is no header:
 *
 *          sn  len  nSG  cmd  ver  lbn  ts  rt   bytes
 *   v1      0    4    8   12   14   16  24        32
 *   v2      4    8   12    0    2   16  24  32    40
 *
 * ver: the version in its upper byte.  cmd: the SCSI operation code.  len: bytes; lbn: sectors of
 * 512 bytes; ts: when, in microseconds since some moment; rt: how long it took, in microseconds.
 * Only v2 knows rt.  Commands that neither read, write nor flush are left out and counted.
 */
#include "sys/bytes.h"
#include "trace/formats.h"

#include <errno.h>

enum { V1_BYTES = 32, V2_BYTES = 40, SECTOR = 512 };

struct vscsi {
	int version;
};

static bool is_version(const uint8_t *head, size_t len, int version)
{
	size_t size = version == 1 ? V1_BYTES : V2_BYTES, at = version == 1 ? 15 : 3;

	if (len < size)
		return false;
	return head[at] == version && (len < 2 * size || head[size + at] == version);
}

static int version_of(const uint8_t *head, size_t len)
{
	return is_version(head, len, 2) ? 2 : is_version(head, len, 1) ? 1 : 0;
}

static bool guess(const uint8_t *head, size_t len)
{
	return version_of(head, len) != 0;
}

static int open_file(struct trace_in *in, struct err *e)
{
	struct vscsi *v = in->state;
	const uint8_t *head;
	size_t n = trace_input_peek(in->input, 2 * V2_BYTES, &head);

	v->version = version_of(head, n);
	if (v->version)
		return 0;
	return err_set(
		e, -EUCLEAN, "'%s': no vscsi trace of version 1 or 2", trace_input_name(in->input));
}

static int op_of(uint64_t cmd)
{
	switch (cmd) {
	case 0x08: /* READ(6), (10), (12), (16) */
	case 0x28:
	case 0xa8:
	case 0x88:
		return TRACE_READ;
	case 0x0a: /* WRITE(6), (10), (12), (16) */
	case 0x2a:
	case 0xaa:
	case 0x8a:
		return TRACE_WRITE;
	case 0x35: /* SYNCHRONIZE CACHE(10), (16) */
	case 0x91:
		return TRACE_FLUSH;
	default:
		return -1;
	}
}

static int decode(
	struct trace_in *in, const uint8_t *b, bool v2, struct trace_record *r, struct err *e)
{
	struct reader c = reader_of(b, v2 ? V2_BYTES : V1_BYTES);
	uint64_t cmd = v2 ? get_le(&c, 2) : 0, ver = v2 ? get_le(&c, 2) : 0;
	uint64_t len, lbn, ts, rt;
	int op;

	get_le(&c, 4); /* sn */
	len = get_le(&c, 4);
	get_le(&c, 4); /* nSG */
	if (!v2) {
		cmd = get_le(&c, 2);
		ver = get_le(&c, 2);
	}
	lbn = get_le(&c, 8);
	ts = get_le(&c, 8);
	rt = v2 ? get_le(&c, 8) : 0;
	op = op_of(cmd);
	if (ver >> 8 != (v2 ? 2 : 1))
		return trace_in_bad(in, e, "another version than the records before", NULL);
	if (op < 0) {
		in->ignored++;
		return TRACE_NEXT_NOTHING;
	}
	if (ts >= (1ull << 62) / 1000 || rt >= (1ull << 62) / 1000)
		return trace_in_bad(in, e, "impossible time", NULL);
	if (lbn >= (1ull << 63) / SECTOR)
		return trace_in_bad(in, e, "impossible block number", NULL);
	r->op = (uint8_t)op;
	r->submit_ns = ts * 1000;
	r->complete_ns = v2 ? (ts + rt) * 1000 : 0;
	r->offset_bytes = op != TRACE_FLUSH ? lbn * SECTOR : 0;
	r->len_bytes = op != TRACE_FLUSH ? len : 0;
	return 1;
}

static int next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	const struct vscsi *v = in->state;
	bool v2 = v->version == 2;
	uint8_t b[V2_BYTES];
	int size = v2 ? V2_BYTES : V1_BYTES, n = trace_input_read(in->input, b, (size_t)size, e);

	if (n <= 0)
		return n;
	in->at++;
	return n < size ? trace_in_bad(in, e, "it is cut off", NULL) : decode(in, b, v2, r, e);
}

const struct trace_format trace_format_vscsi = {
	.name = "vscsi",
	.summary = "CloudPhysics vscsi, versions 1 and 2",
	.binary = true,
	.clock = TRACE_CLOCK_OTHER,
	.in_bytes = sizeof(struct vscsi),
	.guess = guess,
	.open = open_file,
	.next = next,
};
