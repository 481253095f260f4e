/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_child.c - child processes end, and what they started ends with them. */
#include "test/test.h"

#include "ci/runner/child.h"

#include <errno.h>
#include <unistd.h>

static struct err e;

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static unsigned next;
	char *out = path[next++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", test_dir(), name);
	return out;
}

static int shell(const char *script, double limit_s, struct child *c)
{
	const char *argv[] = {"sh", "-c", script, NULL};
	const char *env[] = {"GREETING=hello", NULL};

	*c = (struct child){.argv = argv,
		.env = env,
		.cwd = test_dir(),
		.out = in_dir("out"),
		.log = in_dir("log"),
		.cpu = 0,
		.limit_s = limit_s};
	e.msg[0] = 0;
	return child_run(c, &e);
}

TEST(output_environment_and_directory)
{
	struct child c;
	char *text;

	assert_int_equal(shell("echo $GREETING > here; cat here", 60, &c), 0);
	text = file_text(in_dir("out"), NULL);
	assert_non_null(text);
	assert_string_equal(text, "hello\n");
	free(text);
	assert_true(c.wall_s > 0);
	assert_int_equal(access(in_dir("here"), F_OK), 0);
}

TEST(a_failure_says_why)
{
	struct child c;

	assert_int_equal(shell("echo first >&2; echo no such thing >&2; exit 3", 60, &c), -EIO);
	assert_non_null(strstr(e.msg, "exit code 3"));
	assert_non_null(strstr(e.msg, "no such thing"));
	assert_int_equal(shell("kill -9 $$", 60, &c), -EIO);
	assert_non_null(strstr(e.msg, "signal 9"));
}

TEST(a_program_that_is_not_there)
{
	const char *argv[] = {"no-such-program-here", NULL};
	struct child c = {.argv = argv, .log = in_dir("log"), .cpu = -1, .limit_s = 60};

	assert_int_equal(child_run(&c, &e), -EIO);
	assert_non_null(strstr(e.msg, "no-such-program-here"));
}

/* Gone, or dead and waiting for an init that takes its time. */
static bool dead(pid_t pid)
{
	char path[64], *text, *state;
	bool is;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	text = file_text(path, NULL);
	state = text ? strrchr(text, ')') : NULL;
	is = !state || state[2] == 'Z' || state[2] == 'X';
	free(text);
	return is;
}

/* The shell's own child is in its group. */
TEST(the_time_limit_ends_the_whole_group)
{
	struct child c;
	char *text;
	pid_t pid;

	assert_int_equal(shell("sleep 1000 & echo $!; wait", 0.3, &c), -ETIMEDOUT);
	text = file_text(in_dir("out"), NULL);
	assert_non_null(text);
	pid = (pid_t)atoi(text);
	free(text);
	assert_true(pid > 1);
	for (unsigned i = 0; i < 1000 && !dead(pid); i++)
		usleep(2000);
	assert_true(dead(pid));
}

TEST(a_childs_output_is_json_or_an_error)
{
	const char *good[] = {"echo", "{\"n\": 7}", NULL}, *bad[] = {"echo", "seven", NULL};
	json_t *out = NULL;

	assert_int_equal(child_json(test_dir(), good, 10, &out, &e), 0);
	assert_int_equal(json_integer_value(json_object_get(out, "n")), 7);
	json_decref(out);
	assert_int_equal(child_json(test_dir(), bad, 10, &out, &e), -EUCLEAN);
	assert_non_null(strstr(e.msg, "no JSON"));
}
