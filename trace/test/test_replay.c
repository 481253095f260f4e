/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_replay.c - the replay engine on a fake clock: order, think time, scaling, what it measures.
 */
#include "test/test.h"
#include "trace/replay.h"

#include <errno.h>

enum { EVENTS = 4096 };

/* A target with its own clock: request i takes latency(i), submissions are logged. */
struct fake {
	struct replay *r;
	uint64_t now_ns, timer_ns; /* timer_ns 0 = not armed */
	uint64_t (*latency)(struct fake *f, const struct replay_request *q);
	uint64_t latency_ns;
	struct {
		struct replay_request *q;
		uint64_t when_ns;
	} inflight[EVENTS];
	unsigned n;
	uint64_t submitted_ns[EVENTS], completed_ns[EVENTS], order[EVENTS], count;
	uint64_t rand;
	int refuse; /* submissions of this index fail */
	int status;
};

static uint64_t fake_now(void *arg)
{
	return ((struct fake *)arg)->now_ns;
}

static void fake_timer(void *arg, uint64_t when_ns)
{
	struct fake *f = arg;

	assert_true(when_ns > f->now_ns);
	f->timer_ns = when_ns;
}

static int fake_submit(void *arg, struct replay_request *q)
{
	struct fake *f = arg;

	for (unsigned i = 0; i < f->n; i++)
		assert_int_not_equal(f->inflight[i].q->slot, q->slot);
	f->order[f->count++] = q->index;
	f->submitted_ns[q->index] = f->now_ns;
	if (f->refuse == (int)q->index)
		return -EINVAL;
	f->inflight[f->n].q = q;
	f->inflight[f->n++].when_ns = f->now_ns + (f->latency ? f->latency(f, q) : f->latency_ns);
	return 0;
}

static const struct replay_ops fake_ops = {fake_now, fake_submit, fake_timer};

/* The next event: the earliest completion or the timer. */
static void step(struct fake *f)
{
	unsigned first = 0;
	struct replay_request *q;

	for (unsigned i = 1; i < f->n; i++)
		if (f->inflight[i].when_ns < f->inflight[first].when_ns)
			first = i;
	if (f->timer_ns && (!f->n || f->timer_ns <= f->inflight[first].when_ns)) {
		f->now_ns = f->timer_ns;
		f->timer_ns = 0;
		replay_timer(f->r);
		return;
	}
	if (!f->n)
		fail_msg("the replay is stuck");
	q = f->inflight[first].q;
	f->now_ns = f->inflight[first].when_ns;
	f->inflight[first] = f->inflight[--f->n];
	f->completed_ns[q->index] = f->now_ns;
	replay_complete(f->r, q, f->status);
}

static void run(struct fake *f, const struct trace_record *t, size_t n, struct replay_options opt,
	struct replay_result *res)
{
	struct err e = {0};

	if (f->refuse == 0)
		f->refuse = -1;
	if (!f->now_ns)
		f->now_ns = 1000000;
	if (replay_new(t, n, &opt, &fake_ops, f, &f->r, &e) < 0)
		fail_msg("%s", e.msg);
	replay_start(f->r);
	while (!replay_finished(f->r))
		step(f);
	replay_get(f->r, res);
	replay_free(f->r);
}

static struct trace_record rd(uint64_t submit, uint64_t complete)
{
	return (struct trace_record){
		.submit_ns = submit, .complete_ns = complete, .len_bytes = 4096};
}

TEST(a_chain_keeps_its_think_times)
{
	/* three serial reads of 100 ns, 50 ns of thinking in between; the target takes 1000 */
	struct trace_record t[] = {rd(10, 110), rd(160, 260), rd(310, 410)};
	struct fake f = {.latency_ns = 1000};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(f.submitted_ns[0], 1000000);
	assert_int_equal(f.submitted_ns[1], 1001050);
	assert_int_equal(f.submitted_ns[2], 1002100);
	assert_int_equal(res.wall_ns, 3100);
	assert_int_equal(res.recorded_ns, 400);
	assert_int_equal(res.stall_ns, 3000);
	assert_int_equal(res.read_outstanding_ns, 3000);
	assert_int_equal(res.requests, 3);
	assert_int_equal(res.bytes, 3 * 4096);
}

TEST(a_faster_target_shortens_the_waits_only)
{
	struct trace_record t[] = {rd(0, 1000), rd(1050, 2050), rd(2100, 3100)};
	struct fake f = {.latency_ns = 10};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(res.wall_ns, 130);
}

TEST(independent_requests_overlap_as_recorded)
{
	/* both in flight at once when recorded; the third came after both */
	struct trace_record t[] = {rd(0, 100), rd(20, 60), rd(150, 200)};
	struct fake f = {.latency_ns = 1000};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(f.submitted_ns[1] - f.submitted_ns[0], 20);
	assert_int_equal(f.submitted_ns[2] - f.submitted_ns[0], 1020 + 50);
	assert_int_equal(res.read_outstanding_ns, 1020 + 1000);
	assert_int_equal(res.stall_ns, 3000);
	assert_int_equal(res.outstanding, 2);
}

/* The think time runs from when the last of the causes has completed again, whichever that is. */
TEST(every_cause_is_waited_for)
{
	struct trace_record t[] = {rd(0, 10), rd(1, 90), rd(100, 120)};
	struct fake f = {.latency = NULL, .latency_ns = 0};
	struct replay_result res;
	struct replay_options opt = {0};

	f.latency_ns = 300; /* read 1 ends last: at 301 */
	run(&f, t, 3, opt, &res);
	assert_int_equal(f.submitted_ns[2] - f.submitted_ns[0], 301 + 10);
}

static uint64_t first_is_slow(struct fake *f, const struct replay_request *q)
{
	(void)f;
	return q->index == 0 ? 5000 : 10;
}

TEST(a_late_cause_holds_its_dependents)
{
	struct trace_record t[] = {rd(0, 10), rd(1, 90), rd(100, 120)};
	struct fake f = {.latency = first_is_slow};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(f.submitted_ns[2] - f.submitted_ns[0], 5000 + 10);
}

TEST(speed_divides_think_times)
{
	struct trace_record t[] = {rd(0, 100), rd(1100, 1200), rd(3200, 3300)};
	struct fake f = {.latency_ns = 100};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){.speed = 2}, &res);
	assert_int_equal(res.wall_ns, 100 + 500 + 100 + 1000 + 100);
	f = (struct fake){.latency_ns = 100};
	run(&f, t, 3, (struct replay_options){.speed = 0.5}, &res);
	assert_int_equal(res.wall_ns, 100 + 2000 + 100 + 4000 + 100);
}

TEST(asap_drops_think_times_but_not_the_order)
{
	struct trace_record t[] = {rd(0, 100), rd(50, 150), rd(1100, 1200), rd(3200, 3300)};
	struct fake f = {.latency_ns = 100};
	struct replay_result res;

	run(&f, t, 4, (struct replay_options){.asap = true}, &res);
	assert_int_equal(f.submitted_ns[1], f.submitted_ns[0]);
	assert_int_equal(res.wall_ns, 300);
	f = (struct fake){.latency_ns = 100};
	run(&f, t, 4, (struct replay_options){.unordered = true}, &res);
	assert_int_equal(res.wall_ns, 100);
	assert_int_equal(res.outstanding, 4);
}

TEST(unknown_completions_cause_nothing)
{
	struct trace_record t[] = {rd(5, 0), rd(25, 0), rd(45, 0)};
	struct fake f = {.latency_ns = 1000};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(f.submitted_ns[1] - f.submitted_ns[0], 20);
	assert_int_equal(f.submitted_ns[2] - f.submitted_ns[0], 40);
	assert_int_equal(res.recorded_ns, 40);
}

TEST(max_outstanding_holds_back)
{
	struct trace_record t[8];
	struct fake f = {.latency_ns = 100};
	struct replay_result res;

	for (int i = 0; i < 8; i++)
		t[i] = rd(0, 50);
	run(&f, t, 8, (struct replay_options){.max_outstanding = 3}, &res);
	assert_int_equal(res.outstanding, 3);
	assert_int_equal(res.wall_ns, 300);
	assert_true(res.held_back > 0);
}

TEST(zero_latency_in_the_trace_is_no_deadlock)
{
	struct trace_record t[] = {rd(7, 7), rd(7, 7), rd(7, 7), rd(7, 9), rd(9, 9)};
	struct fake f = {.latency_ns = 10};
	struct replay_result res;

	run(&f, t, 5, (struct replay_options){0}, &res);
	assert_int_equal(res.requests, 5);
	assert_int_equal(f.submitted_ns[1] - f.submitted_ns[0], 10);
}

TEST(reads_only_leaves_the_rest_out)
{
	struct trace_record t[] = {rd(0, 10), rd(20, 30), rd(40, 50), rd(60, 60)};
	struct fake f = {.latency_ns = 10};
	struct replay_result res;

	t[1].op = TRACE_WRITE;
	t[3].op = TRACE_FLUSH;
	run(&f, t, 4, (struct replay_options){.reads_only = true}, &res);
	assert_int_equal(res.requests, 2);
	assert_int_equal(res.wall_ns, 10 + 30 + 10);
	f = (struct fake){.latency_ns = 10};
	run(&f, t, 4, (struct replay_options){0}, &res);
	assert_int_equal(res.op[TRACE_WRITE].requests, 1);
	assert_int_equal(res.op[TRACE_FLUSH].requests, 1);
	assert_int_equal(res.op[TRACE_FLUSH].bytes, 0);
	assert_int_equal(res.op[TRACE_READ].latency.p50_ns, 10);
	assert_int_equal(res.read_outstanding_ns, 20);
}

TEST(errors_are_counted_and_do_not_stop_it)
{
	struct trace_record t[] = {rd(0, 10), rd(20, 30), rd(40, 50)};
	struct fake f = {.latency_ns = 10, .refuse = 1};
	struct replay_result res;

	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(res.errors, 1);
	assert_int_equal(res.first_error, -EINVAL);
	assert_int_equal(res.requests, 3);
	assert_int_equal(res.op[TRACE_READ].latency.count, 2);
	f = (struct fake){.latency_ns = 10, .status = -EIO};
	run(&f, t, 3, (struct replay_options){0}, &res);
	assert_int_equal(res.errors, 3);
	assert_int_equal(res.bytes, 0);
}

TEST(requests_are_made_to_fit_the_image)
{
	struct trace_record t[] = {rd(0, 10), rd(20, 30)};
	struct replay_options opt = {.image_bytes = 1 << 20};
	struct fake f = {.latency_ns = 10};
	struct replay_result res;
	struct err e = {0};

	t[0].offset_bytes = 1000;
	t[0].len_bytes = 100; /* 512 .. 1536 */
	t[1].offset_bytes = (3u << 20) - 512;
	assert_int_equal(replay_new(t, 2, &opt, &fake_ops, &f, &f.r, &e), -ERANGE);
	assert_non_null(strstr(e.msg, "request 2 (read at 3145216, 4096 bytes) is beyond"));
	opt.wrap = true;
	run(&f, t, 2, opt, &res);
	assert_int_equal(res.bytes, 1024 + 4096);
}

TEST(a_stopped_replay_finishes_what_is_in_flight)
{
	struct trace_record t[] = {rd(0, 10), rd(0, 10), rd(20, 30)};
	struct fake f = {.latency_ns = 10, .refuse = -1};
	struct replay_options opt = {0};

	assert_int_equal(replay_new(t, 3, &opt, &fake_ops, &f, &f.r, NULL), 0);
	replay_start(f.r);
	replay_stop(f.r);
	assert_false(replay_finished(f.r));
	step(&f);
	step(&f);
	assert_true(replay_finished(f.r));
	assert_int_equal(replay_done(f.r), 2 * 4096);
	assert_int_equal(replay_bytes(f.r), 3 * 4096);
	replay_free(f.r);
}

TEST(an_empty_trace_is_finished_at_once)
{
	struct fake f = {0};
	struct replay_result res;

	run(&f, NULL, 0, (struct replay_options){0}, &res);
	assert_int_equal(res.wall_ns, 0);
}

static uint64_t random_latency(struct fake *f, const struct replay_request *q)
{
	(void)q;
	return test_rand(&f->rand) % 500;
}

/* Any trace, any latencies: every pair (a completed before b was submitted) keeps its order, and
 * all submissions come in the recorded one. */
TEST(random_traces_keep_every_dependency)
{
	uint64_t s = test_seed();

	for (int round = 0; round < 200; round++) {
		struct fake f = {.latency = random_latency, .rand = test_rand(&s)};
		struct trace_record t[120];
		struct replay_result res;
		struct replay_options opt = {.asap = round % 3 == 0,
			.max_outstanding = round % 4 ? 0 : 1 + (unsigned)(test_rand(&s) % 8)};
		size_t n = 1 + test_rand(&s) % 120;
		uint64_t at = 0;

		for (size_t i = 0; i < n; i++) {
			at += test_rand(&s) % 4 ? test_rand(&s) % 200 : 0;
			t[i] = rd(at, test_rand(&s) % 9 ? at + test_rand(&s) % 800 : 0);
		}
		run(&f, t, n, opt, &res);
		assert_int_equal(res.requests, n);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(f.order[i], i);
			for (size_t j = 0; j < n; j++)
				if (t[j].complete_ns && j != i && t[j].submit_ns < t[i].submit_ns &&
					t[j].complete_ns <= t[i].submit_ns)
					assert_true(f.completed_ns[j] <= f.submitted_ns[i]);
		}
	}
}

TEST(written_data_depends_on_seed_place_and_request)
{
	uint8_t a[1024], b[1024];

	replay_fill(a, 1024, 4096, 3, 7);
	replay_fill(b, 1024, 4096, 3, 7);
	assert_memory_equal(a, b, 1024);
	assert_true(memcmp(a, a + 512, 512) != 0);
	replay_fill(b, 1024, 4096, 4, 7);
	assert_true(memcmp(a, b, 512) != 0);
	replay_fill(b, 1024, 4096, 3, 8);
	assert_true(memcmp(a, b, 512) != 0);
	replay_fill(b, 1024, 8192, 3, 7);
	assert_true(memcmp(a, b, 512) != 0);
}
