/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim.c - whole images on simulated loop, disks and store, against a model (docs/DESIGN.md,
 * "simulator").
 *
 *   test_sim                  seeds 1 to 300 (SIM_SEEDS; from SIM_FIRST), then as many cuts
 *   test_sim -s SEED          one, in this process; SIM_VERBOSE=1 tells what happens
 *
 * A seed chooses its crashes; the cuts go through a few lives event by event: cut N is life N % 4,
 * cut after N / 4 events, and from 4096 on its recovery is cut, too.
 *
 * Seeds run in worker processes, one per core, a few dozen each: a crash leaks what blocking calls
 * had on their stacks, and an assert kills only its worker.
 */
#include "test/test.h"

#include "test/sim_lives.h"

#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, SEEDS_PER_WORKER = 64, FAILURES_MAX = 8, CPU_SECONDS = 20 };
enum { CUT_LIVES = 4, CUT_EVENTS = 1024 };

struct shared {
	_Atomic uint64_t next, done;
	uint64_t end, step, running[WORKERS_MAX];
	void (*run)(uint64_t seed);
};

static void hangs(int sig)
{
	static const char text[] = "the seed hangs\n";

	(void)sig;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	abort();
}

static void run_cut(uint64_t n)
{
	uint64_t round = n / (CUT_LIVES * CUT_EVENTS), at = n / CUT_LIVES % CUT_EVENTS;

	sim_run_cut(1000 + n % CUT_LIVES, 1 + at, round ? 1 + (at + round * 37) % 200 : 0);
}

static void run_limited(void (*run)(uint64_t seed), uint64_t seed)
{
	struct itimerval t = {.it_value.tv_sec = CPU_SECONDS};

	/* A seed dies at once and alone, whatever cmocka would do. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGPROF, hangs);
	setitimer(ITIMER_PROF, &t, NULL);
	run(seed);
}

static void work(struct shared *s, unsigned me)
{
	for (int i = 0; i < SEEDS_PER_WORKER; i++) {
		uint64_t seed = atomic_fetch_add(&s->next, s->step);

		if (seed >= s->end)
			break;
		s->running[me] = seed;
		run_limited(s->run, seed);
		s->running[me] = 0;
		atomic_fetch_add(&s->done, 1);
	}
	_exit(0);
}

static pid_t start(struct shared *s, unsigned me)
{
	pid_t pid;

	fflush(stdout);
	s->running[me] = 0;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		work(s, me);
	return pid;
}

static unsigned run_workers(struct shared *s, unsigned workers, const char *what)
{
	pid_t pid[WORKERS_MAX] = {0};
	unsigned failures = 0, running = 0;

	for (unsigned i = 0; i < workers; i++, running++)
		pid[i] = start(s, i);
	while (running) {
		int status;
		pid_t p = wait(&status);
		unsigned i = 0;

		while (i < workers && pid[i] != p)
			i++;
		assert_true(i < workers);
		if (s->running[i]) {
			failures++;
			printf("FAILED: replay with: test_sim -s %" PRIu64 " %s\n", s->running[i],
				what);
		}
		running--;
		if (atomic_load(&s->next) < s->end && failures < FAILURES_MAX) {
			pid[i] = start(s, i);
			running++;
		}
	}
	return failures;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static void run_all(
	void (*run)(uint64_t), uint64_t first, uint64_t n, uint64_t step, const char *what)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct shared *s;
	unsigned failures;

	/* Memory comes and goes in large pieces: keep it. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	if (test_seed_given()) {
		run_limited(run, test_seed());
		return;
	}
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s, MAP_FAILED);
	s->run = run;
	s->step = step;
	s->end = first + n * step;
	atomic_store(&s->next, first);
	failures = run_workers(s,
		cores < 1	      ? 1
		: cores > WORKERS_MAX ? WORKERS_MAX
				      : (unsigned)cores,
		what);
	printf("%" PRIu64 " of %" PRIu64 " passed\n", atomic_load(&s->done), n);
	munmap(s, sizeof(*s));
	assert_int_equal(failures, 0);
}

TEST(whole_images_survive_what_may_happen)
{
	run_all(sim_run_seed, number("SIM_FIRST", 1), number("SIM_SEEDS", 300), 1, "survive");
}

TEST(any_event_may_be_the_last)
{
	uint64_t n = number("SIM_SEEDS", 300);
	uint64_t step = n < CUT_LIVES * CUT_EVENTS ? CUT_LIVES * CUT_EVENTS / (n + 1) | 1 : 1;

	run_all(run_cut, 0, n, step, "event");
}
