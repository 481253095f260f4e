/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sim.c - whole images on simulated loop, disks and store, against a model (docs/DESIGN.md,
 * "simulator").
 *
 *   test_sim                  seeds 1 to 300 (SIM_SEEDS; from SIM_FIRST)
 *   test_sim -s SEED          one, in this process; SIM_VERBOSE=1 tells what happens
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

struct shared {
	_Atomic uint64_t next, done;
	uint64_t end, running[WORKERS_MAX];
};

static void hangs(int sig)
{
	static const char text[] = "the seed hangs\n";

	(void)sig;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	abort();
}

static void run_limited(uint64_t seed)
{
	struct itimerval t = {.it_value.tv_sec = CPU_SECONDS};

	/* A seed dies at once and alone, whatever cmocka would do. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGPROF, hangs);
	setitimer(ITIMER_PROF, &t, NULL);
	sim_run_seed(seed);
}

static void work(struct shared *s, unsigned me)
{
	for (int i = 0; i < SEEDS_PER_WORKER; i++) {
		uint64_t seed = atomic_fetch_add(&s->next, 1);

		if (seed >= s->end)
			break;
		s->running[me] = seed;
		run_limited(seed);
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

static unsigned run_all(struct shared *s, unsigned workers)
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
			printf("FAILED: replay with: test_sim -s %" PRIu64 "\n", s->running[i]);
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

TEST(whole_images_survive_what_may_happen)
{
	uint64_t first = number("SIM_FIRST", 1), n = number("SIM_SEEDS", 300);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct shared *s;
	unsigned failures;

	/* Memory comes and goes in large pieces: keep it. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	if (test_seed_given()) {
		run_limited(test_seed());
		return;
	}
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s, MAP_FAILED);
	atomic_store(&s->next, first);
	s->end = first + n;
	failures = run_all(s, cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores);
	printf("%" PRIu64 " of %" PRIu64 " seeds passed\n", atomic_load(&s->done), n);
	munmap(s, sizeof(*s));
	assert_int_equal(failures, 0);
}
