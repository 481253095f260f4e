/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* main.c - runs the registered tests of one program through cmocka; see test.h. */
#include "test/test.h"

#include <ftw.h>
#include <time.h>
#include <unistd.h>

enum { TESTS_MAX = 512 };

static struct test *tests;
static uint64_t seed;
static bool seed_asked, seed_given;
static unsigned skipped;
static char dir[96];
static const char *prog;

void test_register(struct test *t)
{
	struct test **p = &tests;

	while (*p)
		p = &(*p)->next;
	*p = t;
}

uint64_t test_seed(void)
{
	if (!seed_asked) {
		seed_asked = true;
		printf("[   SEED   ] replay with: %s -s %llu\n", prog, (unsigned long long)seed);
	}
	return seed;
}

bool test_seed_given(void)
{
	return seed_given;
}

void test_skip(const char *why)
{
	skipped++;
	printf("[  SKIPPED ] %s\n", why);
}

static int unlink_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void remove_dir(void)
{
	if (dir[0])
		nftw(dir, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_dir(void)
{
	if (!dir[0]) {
		const char *tmp = getenv("TMPDIR");

		snprintf(dir, sizeof(dir), "%.70s/lsvd-test-XXXXXX", tmp ? tmp : "/var/tmp");
		if (!mkdtemp(dir)) {
			perror(dir);
			exit(1);
		}
		atexit(remove_dir);
	}
	return dir;
}

static bool wanted(const char *name, int n, char **names)
{
	for (int i = 0; i < n; i++)
		if (strstr(name, names[i]))
			return true;
	return n == 0;
}

int main(int argc, char **argv)
{
	struct CMUnitTest list[TESTS_MAX] = {0};
	size_t n = 0;
	int opt, failed;

	prog = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : (uint64_t)time(NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt(argc, argv, "s:l")) != -1) {
		if (opt == 's') {
			seed = strtoull(optarg, NULL, 0);
			seed_given = true;
		} else if (opt == 'l') {
			for (struct test *t = tests; t; t = t->next)
				puts(t->name);
			return 0;
		} else {
			fprintf(stderr, "usage: %s [-s SEED] [-l] [NAME...]\n", prog);
			return 2;
		}
	}
	if (!seed)
		seed = 1;
	for (struct test *t = tests; t; t = t->next) {
		if (!wanted(t->name, argc - optind, argv + optind))
			continue;
		if (n == TESTS_MAX) {
			fprintf(stderr, "%s: more than %d tests; raise TESTS_MAX\n", prog,
				TESTS_MAX);
			return 1;
		}
		list[n++] = (struct CMUnitTest){.name = t->name, .test_func = t->run};
	}
	failed = _cmocka_run_group_tests(prog, list, n, NULL, NULL);
	printf("%s: %zu passed, %d failed, %u skipped\n", prog, n - (size_t)failed - skipped,
		failed, skipped);
	return failed ? 1 : 0;
}
