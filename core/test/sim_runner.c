/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_runner.h"

#include "test/sim_lives.h"
#include "test/sim_world.h"
#include "test/test.h"

#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, FAILURES = 8 };

unsigned runner_per_worker = 400, runner_cpu_seconds = 20;

struct shared {
	_Atomic uint64_t next, done, states;
	uint64_t end, step, running[WORKERS_MAX];
	bool busy[WORKERS_MAX];
	void (*run)(uint64_t number);
};

static struct shared *current;

void runner_count(uint64_t states)
{
	if (current)
		atomic_fetch_add(&current->states, states);
}

static void hangs(int sig)
{
	static const char text[] = "the schedule hangs\n";

	(void)sig;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	abort();
}

/* It dies at once and alone, whatever cmocka would do. */
static void limit(void)
{
	struct itimerval t = {.it_value.tv_sec = runner_cpu_seconds};

	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGPROF, hangs);
	setitimer(ITIMER_PROF, &t, NULL);
	/* Memory comes and goes in large pieces: keep it. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

static void work(struct shared *s, unsigned me)
{
	for (unsigned i = 0; i < runner_per_worker; i++) {
		uint64_t number = atomic_fetch_add(&s->next, s->step);

		if (number >= s->end)
			break;
		s->running[me] = number;
		s->busy[me] = true;
		limit();
		s->run(number);
		s->busy[me] = false;
		atomic_fetch_add(&s->done, 1);
	}
	_exit(0);
}

static pid_t start(struct shared *s, unsigned me)
{
	pid_t pid;

	fflush(stdout);
	s->busy[me] = false;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		work(s, me);
	return pid;
}

uint64_t runner_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static unsigned run_workers(struct shared *s, unsigned workers, const char *test)
{
	pid_t pid[WORKERS_MAX] = {0};
	unsigned failures = 0, running = 0,
		 most = (unsigned)runner_number("SIM_FAILURES", FAILURES);

	for (unsigned i = 0; i < workers; i++, running++)
		pid[i] = start(s, i);
	while (running) {
		int status;
		pid_t p = wait(&status);
		unsigned i = 0;

		while (i < workers && pid[i] != p)
			i++;
		assert_true(i < workers);
		if (s->busy[i]) {
			failures++;
			printf("FAILED: replay with: %s -s %" PRIu64 " %s\n",
				strcmp(test, "exhaust") ? "test_sim" : "test_sim_exhaust",
				s->running[i], test);
		}
		running--;
		if (failures >= most)
			atomic_store(&s->next, s->end);
		if (atomic_load(&s->next) < s->end) {
			pid[i] = start(s, i);
			running++;
		}
	}
	return failures;
}

void runner_plan(struct plan *p)
{
	const char *text = getenv("SIM_PLAN");

	if (text && plan_parse(p, text) < 0) {
		fprintf(stderr, "SIM_PLAN: '%s' is not a plan\n", text);
		exit(2);
	}
}

static unsigned worker_count(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void runner_run(void (*run)(uint64_t), uint64_t first, uint64_t n, uint64_t step, const char *test)
{
	double began = now(), took;
	struct shared *s;
	unsigned failures;

	sim_verbose = getenv("SIM_VERBOSE") != NULL;
	if (test_seed_given()) {
		limit();
		run(test_seed());
		return;
	}
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s, MAP_FAILED);
	s->run = run;
	current = s;
	s->step = step;
	s->end = first + n * step;
	atomic_store(&s->next, first);
	failures = run_workers(s, worker_count(), test);
	took = now() - began;
	printf("%" PRIu64 " of %" PRIu64 " passed, %.0f a second\n", atomic_load(&s->done), n,
		(double)atomic_load(&s->done) / (took > 0.001 ? took : 0.001));
	if (s->states)
		printf("%" PRIu64 " states, %.0f a second\n", atomic_load(&s->states),
			(double)atomic_load(&s->states) / (took > 0.001 ? took : 0.001));
	current = NULL;
	munmap(s, sizeof(*s));
	assert_int_equal(failures, 0);
}

/* ---- one, in a child ---- */

static void child(const struct plan *p, struct plan_trail *trail, int out)
{
	dup2(out, STDERR_FILENO);
	dup2(out, STDOUT_FILENO);
	sim_set_trail(trail);
	limit();
	sim_run(p);
	_exit(0);
}

static void last_line(int in, char *what, size_t len)
{
	char text[4096];
	size_t n = 0;
	ssize_t got;

	while ((got = read(in, text + n, sizeof(text) - 1 - n)) > 0) {
		n += (size_t)got;
		if (n > sizeof(text) / 2) {
			memmove(text, text + n / 2, n - n / 2);
			n -= n / 2;
		}
	}
	while (n && text[n - 1] == '\n')
		n--;
	text[n] = 0;
	if (what)
		snprintf(what, len, "%s", strrchr(text, '\n') ? strrchr(text, '\n') + 1 : text);
}

bool runner_fails(const struct plan *p, struct plan_trail *trail, char *what, size_t len)
{
	struct plan_trail *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, out[2];
	pid_t pid;

	assert_ptr_not_equal(t, MAP_FAILED);
	assert_int_equal(pipe(out), 0);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(p, t, out[1]);
	close(out[1]);
	last_line(out[0], what, len);
	close(out[0]);
	waitpid(pid, &status, 0);
	*trail = *t;
	munmap(t, sizeof(*t));
	return status != 0;
}
