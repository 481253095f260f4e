/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * destage.c - acknowledged records become objects.
 *
 *   open batch --full, old, or wanted--> sealed --a PUT slot is free--> building --> PUT -->
 * durable
 *
 * Building is a chain of background slices (coalesce, lay out, CRC), so that no write waits long
 * behind it.  Frames of the log are held from then until the object is durable: the data is never
 * copied.
 *
 * How fast is pace.c's business.
 */
#include "volume/volume_impl.h"

#include "sys/container.h"
#include "sys/mutant.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { BATCH_EXTENTS_MAX = 1 << 16, REST_MAX_NS = 50000000 };

/* ---- batches ---- */

static struct batch *batch_new(struct volume *v)
{
	struct batch *b = v->free_batches;

	if (b)
		v->free_batches = b->next;
	else
		b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->n = 0;
	b->data_bytes = 0;
	b->any_frame = false;
	b->end_pos = 0;
	b->opened_ns = loop_now(v->loop);
	b->next = NULL;
	return b;
}

static void batch_recycle(struct volume *v, struct batch *b)
{
	b->next = v->free_batches;
	v->free_batches = b;
}

static int batch_add(struct volume *v, struct batch *b, const struct journal_extent *x)
{
	uint64_t fs = journal_frame_sectors(v->journal);

	if (b->n == b->cap) {
		uint32_t cap = b->cap ? 2 * b->cap : 2048;
		struct journal_extent *ext = realloc(b->ext, cap * sizeof(*ext));

		if (!ext)
			return -ENOMEM;
		b->ext = ext;
		b->cap = cap;
	}
	b->ext[b->n++] = *x;
	if (x->kind != EXTENT_DATA)
		return 0;
	b->data_bytes += (uint64_t)x->len * 512;
	if (!b->any_frame)
		b->first_frame = x->pos / fs;
	b->any_frame = true;
	b->last_frame = x->pos / fs;
	b->end_pos = x->pos + x->len;
	return 0;
}

static void seal(struct volume *v)
{
	if (!v->open || !v->open->n)
		return;
	*v->sealed_tail = v->open;
	v->sealed_tail = &v->open->next;
	v->nsealed++;
	v->open = NULL;
}

static uint64_t bytes_of(const struct journal_extent *ext, uint32_t n)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		if (ext[i].kind == EXTENT_DATA)
			bytes += (uint64_t)ext[i].len * 512;
	return bytes;
}

/* Records come frame by frame, but every opening begins a new one: many crashes in a row leave many
 * frames with little in them.  A batch holds all of its own at once, so it must not need more than
 * its share: those for the objects in flight, one being built, and one to write into. */
static bool spans_too_much(const struct volume *v, const struct journal_extent *ext, uint32_t n)
{
	const struct batch *b = v->open;
	uint64_t share = journal_frames(v->journal) / (v->puts_max + 2);

	for (uint32_t i = 0; i < n && b->any_frame; i++)
		if (ext[i].kind == EXTENT_DATA)
			return ext[i].pos / journal_frame_sectors(v->journal) - b->first_frame >=
			       (share ? share : 1);
	return false;
}

void destage_record(struct volume *v, uint64_t seq, const struct journal_extent *ext, uint32_t n)
{
	uint64_t bytes = bytes_of(ext, n);

	/* I3: records enter in order, whole. */
	assert(seq == v->acked + 1);
	v->acked = seq;
	v->last_write_ns = loop_now(v->loop);
	if (v->open && v->open->n &&
		(v->open->data_bytes + bytes > v->cfg.object_bytes ||
			v->open->n + n > BATCH_EXTENTS_MAX || spans_too_much(v, ext, n)))
		seal(v);
	if (!v->open)
		v->open = batch_new(v);
	for (uint32_t i = 0; v->open && i < n; i++)
		if (batch_add(v, v->open, &ext[i]) < 0) {
			volume_fail(v, -ENOMEM);
			return;
		}
	if (!v->open) {
		volume_fail(v, -ENOMEM);
		return;
	}
	v->open->covers = seq;
	v->dirty_bytes += bytes;
	destage_kick(v);
}

/* ---- when to seal early ---- */

static void aged(struct loop_timer *t)
{
	struct volume *v = container_of(t, struct volume, age_timer);
	uint64_t age = (uint64_t)v->cfg.destage_age_ms * 1000000;

	if (!v->open || !v->open->n)
		return;
	if (loop_now(v->loop) >= v->open->opened_ns + age) {
		seal(v);
		destage_kick(v);
	} else {
		loop_timer_set(v->loop, t, v->open->opened_ns + age);
	}
}

void destage_seal(struct volume *v)
{
	seal(v);
	destage_kick(v);
}

void destage_press(struct volume *v)
{
	/* The journal's writers wait: whatever is there goes now, however small, unless more is
	 * coming. */
	v->pressed = v->nsealed || v->building || v->covers_put > v->covers_applied;
	if (!v->pressed)
		seal(v);
	destage_kick(v);
}

/* ---- objects on their way ---- */

struct outgoing *outgoing_new(struct volume *v)
{
	struct outgoing *o = v->free_out;

	if (o) {
		v->free_out = o->next;
	} else {
		o = calloc(1, sizeof(*o));
		if (!o)
			return NULL;
		o->v = v;
	}
	o->b.multiple = v->store->put_multiple;
	o->tries = 0;
	o->durable = o->in_store = o->flat = false;
	o->slot = 0;
	o->applied = 0;
	o->nholds = 0;
	o->client_bytes = 0;
	o->end_pos = 0;
	o->next = NULL;
	return o;
}

void outgoing_recycle(struct volume *v, struct outgoing *o)
{
	for (uint32_t i = 0; i < o->nholds; i++)
		if (o->holds[i].f)
			journal_unhold(v->journal, &o->holds[i]);
	o->nholds = 0;
	o->next = v->free_out;
	v->free_out = o;
}

/* In calm PUTs go out one at a time, and after each the store rests as long as that took, within limits:
 * it may have stood still.  True: not now; the end of a PUT or the timer comes back to it. */
static bool rests(struct volume *v)
{
	if (!v->whole_puts || !pace_calm(v))
		return false;
	if (v->puts_in_flight)
		return true;
	if (loop_now(v->loop) >= v->rest_until_ns)
		return false;
	loop_timer_set(v->loop, &v->rest_timer, v->rest_until_ns);
	return true;
}

static void begin_rest(struct volume *v, uint64_t took_ns)
{
	v->rest_until_ns = loop_now(v->loop) + (took_ns < REST_MAX_NS ? took_ns : REST_MAX_NS);
}

static void rested(struct loop_timer *t)
{
	destage_kick(container_of(t, struct volume, rest_timer));
}

static void submit_put(struct outgoing *o);

static void put_again(struct loop_timer *t)
{
	submit_put(container_of(t, struct outgoing, retry));
}

static void put_later(struct outgoing *o)
{
	struct volume *v = o->v;

	o->retry.fire = put_again;
	loop_timer_set(v->loop, &o->retry, loop_now(v->loop) + volume_backoff_ns(v, o->tries++));
}

static void put_over(struct outgoing *o)
{
	struct volume *v = o->v;

	v->puts_in_flight--;
	begin_rest(v, loop_now(v->loop) - o->submitted_ns);
	volume_store_works(v);
	o->durable = true;
	v->stats.puts++;
	v->stats.put_bytes += build_bytes(&o->b);
	pace_put_over(v, build_bytes(&o->b));
	apply_kick(v);
	destage_kick(v);
}

/* The name is taken: by an earlier try of ours that went through after all?  Nobody else writes
 * names of our epoch (I7), so the object is ours when its header is, byte for byte. */
static void existing_read(struct store_req *r, int64_t status)
{
	struct outgoing *o = container_of(r, struct outgoing, req);
	struct volume *v = o->v;
	size_t len = o->b.h.header_bytes;
	bool same = status == (int64_t)len && !memcmp(o->probe.iov_base, o->b.header, len);

	free(o->probe.iov_base);
	o->probe.iov_base = NULL;
	o->in_store = false;
	if (same)
		put_over(o);
	else if (status >= 0)
		volume_fail(v, -ESTALE);
	else
		put_later(o);
}

static void read_existing(struct outgoing *o)
{
	o->probe = (struct iovec){
		.iov_base = malloc(o->b.h.header_bytes), .iov_len = o->b.h.header_bytes};
	if (!o->probe.iov_base) {
		put_later(o);
		return;
	}
	o->req = (struct store_req){.op = STORE_GET,
		.name = o->name,
		.iov = &o->probe,
		.iovcnt = 1,
		.len_bytes = o->probe.iov_len,
		.done = existing_read,
		.err = &o->err};
	o->in_store = true;
	store_submit(o->v->store, &o->req);
}

static void put_done(struct store_req *r, int64_t status)
{
	struct outgoing *o = container_of(r, struct outgoing, req);
	struct volume *v = o->v;

	o->in_store = false;
	if (status >= 0) {
		put_over(o);
		return;
	}
	if (v->failed)
		return;
	if (status == -EEXIST && o->tries) {
		read_existing(o);
		return;
	}
	volume_store_failed(v, status, &o->err);
	if (volume_worth_retrying(status))
		put_later(o);
	else
		volume_fail(v, status == -EEXIST ? -ESTALE : (int)status);
}

static void submit_put(struct outgoing *o)
{
	struct volume *v = o->v;

	o->err.msg[0] = 0;
	o->submitted_ns = loop_now(v->loop);
	o->req = (struct store_req){.op = STORE_PUT,
		.name = o->name,
		.iov = o->b.iov,
		.iovcnt = (int)o->b.niov,
		.len_bytes = build_bytes(&o->b),
		.pace = &v->pace,
		.done = put_done,
		.err = &o->err};
	o->in_store = true;
	store_submit(v->store, &o->req);
}

int outgoing_put(struct volume *v, struct outgoing *o, uint64_t covers)
{
	struct object_header *h = &o->b.h;
	int rc;

	memcpy(h->uuid, v->sb->uuid, 16);
	h->epoch = v->epoch;
	h->seq = v->next_seq;
	h->covers = covers;
	rc = build_finish(&o->b);
	if (rc < 0)
		return rc;
	v->next_seq++;
	v->covers_put = covers;
	volume_object_name(o->name, v->name, h->epoch, h->seq);
	o->next = NULL;
	*v->out_tail = o;
	v->out_tail = &o->next;
	pace_put_begins(v);
	v->puts_in_flight++;
	submit_put(o);
	return 0;
}

/* ---- building ---- */

static void step_background(struct volume *v)
{
	loop_background(v->loop, &v->step);
}

static void held(struct journal_hold *h, int status)
{
	struct outgoing *o = h->owner;
	struct volume *v = o->v;

	if (status < 0 && v->holds_status == 0)
		v->holds_status = status;
	if (status < 0)
		h->f = NULL;
	if (--v->holds_pending == 0)
		step_background(v);
}

/* The open batch is put early only when somebody waits for it. */
static bool wanted(const struct volume *v)
{
	return v->open && v->open->n && v->drain_seq > v->covers_put &&
	       (!v->nsealed || v->drain_seq >= v->open->covers);
}

static bool begin_build(struct volume *v)
{
	struct batch *b;
	uint32_t n = 0;

	if (v->puts_in_flight >= v->puts_max || rests(v))
		return false;
	if (!v->sealed && wanted(v))
		seal(v);
	b = v->sealed;
	if (!b)
		return false;
	if (b->any_frame)
		n = (uint32_t)(b->last_frame - b->first_frame + 1);
	v->making = outgoing_new(v);
	if (v->making && n > v->making->holds_cap) {
		struct journal_hold *holds = realloc(v->making->holds, n * sizeof(*holds));

		if (holds) {
			v->making->holds = holds;
			v->making->holds_cap = n;
		}
	}
	if (!v->making || n > v->making->holds_cap) {
		volume_fail(v, -ENOMEM);
		return false;
	}
	v->sealed = b->next;
	if (!v->sealed)
		v->sealed_tail = &v->sealed;
	b->next = NULL;
	v->nsealed--;
	v->building = b;
	v->stage = STAGE_HOLDING;
	v->holds_status = 0;
	v->holds_pending = n + 1;
	v->making->nholds = n;
	for (uint32_t i = 0; i < n; i++) {
		struct journal_hold *h = &v->making->holds[i];

		*h = (struct journal_hold){
			.frame = b->first_frame + i, .done = held, .owner = v->making};
		journal_hold(v->journal, h);
	}
	if (--v->holds_pending == 0)
		step_background(v);
	return true;
}

static const void *held_memory(void *arg, uint64_t pos, const uint32_t **crcs)
{
	struct volume *v = arg;
	uint64_t fs = journal_frame_sectors(v->journal);
	const struct journal_hold *h = &v->making->holds[pos / fs - v->building->first_frame];

	*crcs = journal_crcs(v->journal, pos);
	return h->mem + pos % fs * 512;
}

static int lay_out(struct volume *v)
{
	const struct layout_source from = {.at = held_memory, .arg = v};

	build_begin(&v->making->b, 0);
	return layout_build(&v->layout, &v->making->b, &from);
}

static int put_built(struct volume *v)
{
	struct batch *b = v->building;
	struct outgoing *o = v->making;
	int rc;

	o->client_bytes = b->data_bytes;
	o->end_pos = b->end_pos;
	v->stats.batch_bytes += o->b.data_sectors * 512;
	rc = outgoing_put(v, o, MUTANT(COVERS_TOO_MUCH) ? v->acked : b->covers);
	if (rc < 0)
		return rc;
	v->stage = STAGE_IDLE;
	v->building = NULL;
	v->making = NULL;
	batch_recycle(v, b);
	return 0;
}

static int step_once(struct volume *v)
{
	int rc = 0;

	switch (v->stage) {
	case STAGE_IDLE:
		begin_build(v);
		return 0;
	case STAGE_HOLDING:
		if (v->holds_status < 0)
			return v->holds_status;
		layout_begin(&v->layout);
		v->stage = STAGE_COALESCE;
		break;
	case STAGE_COALESCE:
		rc = layout_coalesce(&v->layout, v->building->ext, v->building->n);
		if (rc == 1)
			v->stage = STAGE_LAYOUT;
		break;
	case STAGE_LAYOUT:
		rc = lay_out(v);
		v->stage = STAGE_CRC;
		break;
	case STAGE_CRC:
		rc = build_crc(&v->making->b, CRC_SLICE_BYTES);
		if (rc == 1)
			v->stage = STAGE_WAIT;
		break;
	case STAGE_WAIT:
		rc = put_built(v);
		break;
	}
	if (rc < 0)
		return rc;
	step_background(v);
	return 0;
}

static void step(struct loop_task *t)
{
	struct volume *v = container_of(t, struct volume, step);
	int rc;

	if (v->failed || (v->stage == STAGE_HOLDING && v->holds_pending))
		return;
	rc = step_once(v);
	if (rc < 0)
		volume_fail(v, rc);
}

void destage_kick(struct volume *v)
{
	/* A frame that is loaded before replay has seen all of it is not verified, nor mended. */
	if (v->failed || !v->journal || v->replaying)
		return;
	if (v->stage == STAGE_IDLE && v->puts_in_flight < v->puts_max && (v->sealed || wanted(v)) &&
		!rests(v))
		step_background(v);
	if (v->open && v->open->n && v->cfg.destage_age_ms && !loop_timer_armed(&v->age_timer))
		loop_timer_set(v->loop, &v->age_timer,
			v->open->opened_ns + (uint64_t)v->cfg.destage_age_ms * 1000000);
	if (v->sealed || v->out)
		pace_watch(v);
}

bool destage_idle(const struct volume *v)
{
	return v->stage == STAGE_IDLE && !v->sealed && !v->out && !(v->open && v->open->n);
}

/* ---- drains ---- */

static void drain_over(struct loop_task *t)
{
	struct volume_drain *d = container_of(t, struct volume_drain, task);

	d->done(d, d->status);
}

void destage_check_drains(struct volume *v)
{
	struct volume_drain **p = &v->drains;

	while (*p) {
		struct volume_drain *d = *p;

		if (d->seq > (MUTANT(DRAIN_EARLY) ? v->covers_put : v->covers_applied) &&
			!v->failed) {
			p = &d->next;
			continue;
		}
		*p = d->next;
		d->status = d->seq > v->covers_applied ? v->failed : 0;
		d->task = (struct loop_task){.run = drain_over};
		loop_defer(v->loop, &d->task);
	}
}

void volume_drain(struct volume *v, struct volume_drain *d)
{
	d->seq = v->acked;
	d->next = v->drains;
	v->drains = d;
	if (v->drain_seq < d->seq)
		v->drain_seq = d->seq;
	destage_check_drains(v);
	destage_kick(v);
}

/* ---- making and unmaking ---- */

int destage_init(struct volume *v)
{
	v->sealed_tail = &v->sealed;
	v->out_tail = &v->out;
	v->step.run = step;
	v->age_timer.fire = aged;
	v->rest_timer.fire = rested;
	v->whole_puts = strcmp(v->store->kind, "file") != 0;
	pace_init(v);
	/* Files are made durable many at a time while the next ones are being written; the pace,
	 * not this, says how much is written at once. */
	v->puts_max = v->cfg.destage_puts		? v->cfg.destage_puts
		      : !strcmp(v->store->kind, "file") ? 8
							: 4;
	if (v->puts_max > PUTS_MAX)
		v->puts_max = PUTS_MAX;
	return layout_init(&v->layout);
}

static void free_batches(struct batch *b)
{
	while (b) {
		struct batch *next = b->next;

		free(b->ext);
		free(b);
		b = next;
	}
}

static void free_outgoing(struct outgoing *o)
{
	while (o) {
		struct outgoing *next = o->next;

		build_free(&o->b);
		free(o->holds);
		free(o->probe.iov_base);
		free(o);
		o = next;
	}
}

void destage_fini(struct volume *v)
{
	loop_timer_cancel(v->loop, &v->age_timer);
	pace_fini(v);
	loop_timer_cancel(v->loop, &v->rest_timer);
	for (struct outgoing *o = v->out; o; o = o->next)
		loop_timer_cancel(v->loop, &o->retry);
	free_batches(v->open);
	free_batches(v->sealed);
	free_batches(v->building);
	free_batches(v->free_batches);
	free_outgoing(v->making);
	free_outgoing(v->out);
	free_outgoing(v->free_out);
	layout_fini(&v->layout);
}
