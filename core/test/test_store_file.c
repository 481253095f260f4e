/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_store_file.c - the file store and the world around it: directories that are missing,
 * foreign, full, read-only, gone; other processes; spare files. */
#include "store/file_impl.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/store_util.h"
#include "test/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MB = 1 << 20 };

struct fix {
	struct loop *l;
	struct store *s;
	char dir[200], url[220];
};

static unsigned made;

static void open_it(struct fix *f, unsigned flags)
{
	assert_int_equal(loop_uring_new(64, &f->l, &util_err), 0);
	f->s = util_open(f->l, f->url, flags);
}

static void close_it(struct fix *f)
{
	store_close(f->s);
	loop_free(f->l);
}

static void name_it(struct fix *f)
{
	snprintf(f->dir, sizeof(f->dir), "%s/f%u", test_dir(), made++);
	snprintf(f->url, sizeof(f->url), "file:%s", f->dir);
}

static void set_up(struct fix *f)
{
	name_it(f);
	open_it(f, STORE_CREATE);
}

static const char *path(const struct fix *f, const char *rest)
{
	static char p[2][400];
	static int turn;

	turn = !turn;
	snprintf(p[turn], sizeof(p[turn]), "%s%s", f->dir, rest);
	return p[turn];
}

static void write_file(const char *p, const char *text)
{
	FILE *out = fopen(p, "w");

	assert_non_null(out);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

/* Entries of a directory but . and .., -1 when it is not there. */
static int entries(const char *p)
{
	DIR *d = opendir(p);
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static ino_t inode(const char *p)
{
	struct stat st;

	return stat(p, &st) ? 0 : st.st_ino;
}

/* ---- opening ---- */

TEST(opening_says_what_is_wrong)
{
	struct fix f;
	struct store *s;
	struct loop *sim;
	char url[300];

	name_it(&f);
	assert_int_equal(loop_uring_new(64, &f.l, &util_err), 0);
	assert_int_equal(store_open(f.l, f.url, NULL, 0, &s, &util_err), -ENOENT);
	assert_non_null(strstr(util_err.msg, f.dir));
	assert_non_null(strstr(util_err.msg, "does not exist"));
	snprintf(url, sizeof(url), "%s/deep", f.url);
	assert_int_equal(store_open(f.l, url, NULL, STORE_CREATE, &s, &util_err), 0);
	store_close(s);
	assert_int_equal(rmdir(url + strlen("file:")), 0);
	assert_int_equal(rmdir(f.dir), 0);
	write_file(f.dir, "a file");
	assert_int_equal(store_open(f.l, f.url, NULL, STORE_CREATE, &s, &util_err), -ENOTDIR);
	assert_non_null(strstr(util_err.msg, "not a directory"));
	assert_int_equal(store_open(f.l, "file:", NULL, STORE_CREATE, &s, &util_err), -EINVAL);
	loop_free(f.l);
	assert_int_equal(loop_sim_new(1, &sim, &util_err), 0);
	assert_int_equal(store_open(sim, "file:/tmp", NULL, 0, &s, &util_err), -EINVAL);
	assert_non_null(strstr(util_err.msg, "real loop"));
	loop_free(sim);
}

TEST(foreign_files_are_not_listed)
{
	struct fix f;

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/1", "x", 1), 0);
	write_file(path(&f, "/README"), "hello");
	write_file(path(&f, "/vm/.hidden"), "hello");
	write_file(path(&f, "/vm/back~up"), "hello");
	write_file(path(&f, "/vm/with space"), "hello");
	assert_int_equal(mkdir(path(&f, "/lost+found"), 0777), 0);
	write_file(path(&f, "/lost+found/1"), "hello");
	assert_int_equal(mkdir(path(&f, "/vm/dir"), 0777), 0);
	assert_int_equal(symlink("1", path(&f, "/vm/link")), 0);
	assert_int_equal(mkfifo(path(&f, "/vm/fifo"), 0666), 0);
	assert_string_equal(util_list(f.s, ""), "vm/1:1 ");
	assert_string_equal(util_list(f.s, "vm/"), "vm/1:1 ");
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(entries(path(&f, "/vm")), 6); /* and not touched */
	close_it(&f);
}

TEST(leftovers_of_a_dead_process_are_cleaned)
{
	struct fix f;
	struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/1", "x", 1), 0);
	assert_int_equal(util_lock(f.s, "vm", "me"), 0);
	close_it(&f);
	assert_int_equal(mkdir(path(&f, "/.spare"), 0777), 0);
	write_file(path(&f, "/.spare/t-0000000000000001-1"), "half");
	assert_int_equal(utimensat(AT_FDCWD, path(&f, "/.spare/t-0000000000000001-1"), old, 0), 0);
	write_file(path(&f, "/.spare/t-0000000000000002-1"), "a living process writes this");
	write_file(path(&f, "/.spare/s-0000000000000001-2"), "too small to keep");
	write_file(path(&f, "/.spare/s-0000000000000001-3"), "");
	assert_int_equal(truncate(path(&f, "/.spare/s-0000000000000001-3"), 2 * MB), 0);
	open_it(&f, 0);
	assert_int_equal(entries(path(&f, "/.spare")), 2);
	assert_int_equal(inode(path(&f, "/.spare/t-0000000000000001-1")), 0);
	assert_int_not_equal(inode(path(&f, "/.spare/t-0000000000000002-1")), 0);
	assert_int_equal(util_lock(f.s, "vm", "me"), 0);
	assert_int_equal(util_unlock(f.s, "vm"), 0);
	close_it(&f);
	assert_int_equal(entries(path(&f, "/.spare")), 1);
	open_it(&f, 0);
	assert_int_equal(util_delete(f.s, "vm/1"), 0); /* the last one: nothing stays */
	close_it(&f);
	assert_int_equal(entries(f.dir), 0);
}

TEST(a_removed_image_leaves_nothing)
{
	struct fix f;
	char *b = util_bytes(1, 2 * MB);

	set_up(&f);
	assert_int_equal(util_lock(f.s, "vm", "me"), 0);
	assert_int_equal(util_lock(f.s, "other", "me"), 0);
	assert_int_equal(util_swap(f.s, "vm/super", "", "s", 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 2 * MB), 0);
	assert_int_equal(util_put(f.s, "vm/2", b, 100), 0);
	assert_int_equal(util_put(f.s, "other/1", b, 100), 0);
	assert_int_equal(util_delete(f.s, "vm/super"), 0);
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(util_delete(f.s, "vm/2"), 0);
	assert_int_equal(entries(path(&f, "/vm")), -1);
	assert_int_equal(entries(path(&f, "/.spare")), 1); /* the other image may use it */
	assert_int_equal(util_unlock(f.s, "vm"), 0);
	assert_int_equal(entries(path(&f, "/vm")), -1);
	assert_int_equal(util_delete(f.s, "other/1"), 0);
	assert_int_equal(util_unlock(f.s, "other"), 0);
	assert_int_equal(entries(f.dir), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 2 * MB), 0); /* and it can come again */
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(util_lock(f.s, "typo", "me"), 0);
	assert_int_equal(util_unlock(f.s, "typo"), 0);
	close_it(&f);
	assert_int_equal(entries(f.dir), 0);
	free(b);
}

/* A handle that did not make the objects removes them as well. */
TEST(an_image_made_by_another_handle_leaves_nothing)
{
	struct fix f;

	set_up(&f);
	assert_int_equal(util_swap(f.s, "vm/super", "", "s", 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", "x", 1), 0);
	close_it(&f);
	open_it(&f, 0);
	assert_int_equal(util_delete(f.s, "vm/super"), 0);
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	close_it(&f);
	assert_int_equal(entries(f.dir), 0);
}

/* ---- a directory that goes and comes ---- */

TEST(a_vanished_directory_is_an_error_until_it_is_back)
{
	struct fix f;
	char away[250], c, tag[STORE_TAG_MAX];

	set_up(&f);
	snprintf(away, sizeof(away), "%s.away", f.dir);
	assert_int_equal(util_put(f.s, "vm/1", "x", 1), 0);
	assert_int_equal(util_swap(f.s, "vm/super", "", "s", 1), 0);
	memcpy(tag, util_tag, sizeof(tag));
	assert_int_equal(rename(f.dir, away), 0);
	assert_int_equal(util_put(f.s, "vm/2", "x", 1), -EIO);
	assert_non_null(strstr(util_err.msg, f.dir));
	assert_non_null(strstr(util_err.msg, "gone"));
	assert_int_equal(util_get(f.s, "vm/1", 0, &c, 1), -EIO); /* not: it does not exist */
	assert_int_equal(util_delete(f.s, "vm/1"), -EIO);
	assert_int_equal(util_swap(f.s, "vm/super", tag, "t", 1), -EIO);
	assert_int_equal(util_lock(f.s, "vm", "me"), -EIO);
	assert_null(util_list(f.s, ""));
	assert_int_equal(mkdir(f.dir, 0777), 0); /* an empty one is not it */
	assert_int_equal(util_put(f.s, "vm/2", "x", 1), -EIO);
	assert_non_null(strstr(util_err.msg, "another directory"));
	assert_int_equal(util_get(f.s, "vm/1", 0, &c, 1), -EIO);
	assert_int_equal(util_delete(f.s, "vm/1"), -EIO);
	assert_null(util_list(f.s, ""));
	assert_int_equal(rmdir(f.dir), 0);
	assert_int_equal(rename(away, f.dir), 0);
	assert_int_equal(util_put(f.s, "vm/2", "x", 1), 0);
	assert_int_equal(util_get(f.s, "vm/1", 0, &c, 1), 1);
	assert_int_equal(util_swap(f.s, "vm/super", tag, "t", 1), 0);
	assert_string_equal(util_list(f.s, ""), "vm/1:1 vm/2:1 vm/super:1 ");
	close_it(&f);
}

struct slot {
	struct store_req r;
	struct iovec iov;
	char name[32];
	bool done;
	int64_t status;
};

static void slot_done(struct store_req *r, int64_t status)
{
	struct slot *k = (struct slot *)r;

	assert_false(k->done);
	k->done = true;
	k->status = status;
}

static void submit(
	struct fix *f, struct slot *k, enum store_op op, const char *name, void *b, size_t len)
{
	memset(k, 0, sizeof(*k));
	snprintf(k->name, sizeof(k->name), "%s", name);
	k->iov = (struct iovec){b, len};
	k->r = (struct store_req){.op = op,
		.name = k->name,
		.iov = &k->iov,
		.iovcnt = 1,
		.len_bytes = len,
		.done = slot_done};
	store_submit(f->s, &k->r);
}

static void wait_for(struct fix *f, const struct slot *k)
{
	while (!k->done)
		loop_poll(f->l, LOOP_FOREVER);
}

TEST(a_directory_that_vanishes_under_load)
{
	enum { N = 40 };
	struct fix f;
	struct slot *k = calloc(N, sizeof(*k));
	char *b = util_bytes(1, MB), *got = util_bytes(2, MB), away[250], name[32];
	int failed = 0;

	set_up(&f);
	snprintf(away, sizeof(away), "%s.away", f.dir);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "vm/%d", i);
		submit(&f, &k[i], STORE_PUT, name, b, MB);
		if (i == N / 2) {
			wait_for(&f, &k[0]);
			assert_int_equal(rename(f.dir, away), 0);
		}
		loop_poll(f.l, 0);
	}
	for (int i = 0; i < N; i++) {
		wait_for(&f, &k[i]);
		assert_true(k[i].status == 0 || k[i].status == -EIO || k[i].status == -ENOENT);
		failed += k[i].status != 0;
	}
	assert_true(failed >= N / 2 - 1);
	assert_int_equal(rename(away, f.dir), 0);
	for (int i = 0; i < N; i++) {
		int64_t rc = util_put(f.s, k[i].name, b, MB);

		assert_true(rc == 0 || rc == -EEXIST);
		assert_true(k[i].status || rc == -EEXIST);
		assert_int_equal(util_get(f.s, k[i].name, 0, got, MB), MB);
		assert_memory_equal(b, got, MB);
	}
	close_it(&f);
	assert_int_equal(entries(path(&f, "/.spare")), -1); /* no temporary file is left */
	free(k);
	free(b);
	free(got);
}

/* ---- spare files ---- */

TEST(deleted_files_are_written_again)
{
	struct fix f;
	char *b = util_bytes(1, 3 * MB), *got = util_bytes(2, 3 * MB);
	ino_t first;

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/keep", b, 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 2 * MB), 0);
	first = inode(path(&f, "/vm/1"));
	assert_int_equal(util_get(f.s, "vm/1", 0, got, 3 * MB), 2 * MB); /* its file is kept open */
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(util_put(f.s, "vm/2", b + 512, 2 * MB - 4096), 0);
	assert_int_equal(inode(path(&f, "/vm/2")), first);
	assert_int_equal(util_get(f.s, "vm/1", 0, got, 3 * MB), -ENOENT);
	assert_int_equal(util_get(f.s, "vm/2", 0, got, 3 * MB), 2 * MB - 4096);
	assert_memory_equal(got, b + 512, 2 * MB - 4096);
	assert_int_equal(util_delete(f.s, "vm/2"), 0);
	assert_int_equal(util_put(f.s, "vm/3", b, 3 * MB), 0); /* longer than it was */
	assert_int_equal(inode(path(&f, "/vm/3")), first);
	assert_int_equal(util_get(f.s, "vm/3", 0, got, 3 * MB), 3 * MB);
	assert_memory_equal(got, b, 3 * MB);
	assert_int_equal(util_delete(f.s, "vm/3"), 0);
	assert_int_equal(unlink(path(&f, "/.spare/x")), -1);
	close_it(&f);
	assert_int_equal(entries(path(&f, "/.spare")), -1);
	free(b);
	free(got);
}

TEST(spares_are_few)
{
	struct fix f;
	char *b = util_bytes(1, MB), name[32];

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/keep", b, 1), 0);
	for (int i = 0; i < 140; i++) {
		snprintf(name, sizeof(name), "vm/%d", i);
		assert_int_equal(util_put(f.s, name, b, MB), 0);
	}
	for (int i = 0; i < 140; i++) {
		snprintf(name, sizeof(name), "vm/%d", i);
		assert_int_equal(util_delete(f.s, name), 0);
	}
	assert_in_range(entries(path(&f, "/.spare")), 1, 128);
	close_it(&f);
	free(b);
}

static ino_t inode_of(struct fix *f, const char *name)
{
	struct stat st;

	assert_int_equal(stat(path(f, name), &st), 0);
	return st.st_ino;
}

/* One as long as the object, else a shorter one: none is cut without need. */
/* Past the page cache all the same: what is read back is what was put, to the byte. */
TEST(an_end_that_is_not_aligned_is_kept)
{
	static const size_t ends[] = {1, 24, 511, 513, 4095};
	struct fix f;
	char *got = malloc(3 * MB), *mem;

	set_up(&f);
	mem = aligned_alloc(4096, 3 * MB);
	for (size_t i = 0; i < 3 * MB; i++)
		mem[i] = (char)(i * 7 + i / 4096);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t len = 2 * MB + ends[i];
		char name[8];

		snprintf(name, sizeof(name), "vm/%zu", i);
		assert_int_equal(util_put(f.s, name, mem, len), 0);
		assert_int_equal(util_get(f.s, name, 0, got, 3 * MB), (int64_t)len);
		assert_memory_equal(got, mem, len);
		if (i % 2) /* the next one is made of a longer spare */
			assert_int_equal(util_delete(f.s, name), 0);
	}
	close_it(&f);
	free(mem);
	free(got);
}

TEST(the_spare_that_fits_best_is_taken)
{
	struct fix f;
	char *b = util_bytes(1, 5 * MB);
	ino_t three, two;

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/keep", b, 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 2 * MB), 0);
	assert_int_equal(util_put(f.s, "vm/2", b, 5 * MB), 0);
	assert_int_equal(util_put(f.s, "vm/3", b, 3 * MB), 0);
	two = inode_of(&f, "/vm/1");
	three = inode_of(&f, "/vm/3");
	for (int i = 1; i <= 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "vm/%d", i);
		assert_int_equal(util_delete(f.s, name), 0);
	}
	assert_int_equal(util_put(f.s, "vm/4", b, 3 * MB), 0);
	assert_int_equal(util_put(f.s, "vm/5", b, 4 * MB), 0);
	assert_true(inode_of(&f, "/vm/4") == three);
	assert_true(inode_of(&f, "/vm/5") == two);
	close_it(&f);
	free(b);
}

/* A GET that began before the DELETE reads the object, whatever is put meanwhile. */
TEST(a_file_being_read_is_not_written_again)
{
	enum { PARTS = 4 * MB / 512 }; /* read in many steps, so that it lasts */
	struct fix f;
	struct slot get, del, put;
	char *b = util_bytes(1, 4 * MB), *c = util_bytes(2, 4 * MB), *got = util_bytes(3, 4 * MB);
	struct iovec *iov = calloc(PARTS, sizeof(*iov));

	for (int i = 0; i < PARTS; i++)
		iov[i] = (struct iovec){got + i * 512, 512};
	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/keep", b, 1), 0);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(util_put(f.s, "vm/1", b, 4 * MB), 0);
		assert_int_equal(util_get(f.s, "vm/1", 0, got, 512), 512);
		memset(&get, 0, sizeof(get));
		get.r = (struct store_req){.op = STORE_GET,
			.name = "vm/1",
			.iov = iov,
			.iovcnt = PARTS,
			.len_bytes = 4 * MB,
			.done = slot_done};
		store_submit(f.s, &get.r);
		submit(&f, &del, STORE_DELETE, "vm/1", NULL, 0);
		wait_for(&f, &del);
		submit(&f, &put, STORE_PUT, "vm/2", c, 4 * MB);
		wait_for(&f, &get);
		wait_for(&f, &put);
		assert_int_equal(put.status, 0);
		assert_int_equal(get.status, 4 * MB);
		assert_memory_equal(got, b, 4 * MB);
		assert_int_equal(util_delete(f.s, "vm/2"), 0);
	}
	close_it(&f);
	free(iov);
	free(b);
	free(c);
	free(got);
}

/* Short reads and writes go on where they stopped. */
TEST(slices_and_advances_lose_nothing)
{
	char bytes[1000];
	struct iovec iov[] = {
		{bytes, 100}, {bytes + 100, 0}, {bytes + 100, 500}, {bytes + 600, 400}};
	struct cursor at = {iov, 4, 0};
	struct piece p = {.off_bytes = 7000};

	assert_int_equal(file_slice(&at, &p, 50), 50);
	assert_int_equal(p.count, 1);
	assert_ptr_equal(p.iov[0].iov_base, bytes);
	assert_int_equal(file_slice(&at, &p, 700), 700);
	assert_int_equal(p.count, 3);
	assert_ptr_equal(p.iov[0].iov_base, bytes + 50);
	assert_int_equal(file_piece_advance(&p, 60), 640);
	assert_int_equal(p.off_bytes, 7060);
	assert_int_equal(p.count, 2);
	assert_ptr_equal(p.iov[0].iov_base, bytes + 110);
	assert_int_equal(p.iov[0].iov_len, 490);
	assert_int_equal(file_piece_advance(&p, 490), 150);
	assert_ptr_equal(p.iov[0].iov_base, bytes + 600);
	assert_int_equal(file_piece_advance(&p, 150), 0);
	assert_int_equal(p.off_bytes, 7700);
	assert_int_equal(file_slice(&at, &p, 1000), 250);
	assert_ptr_equal(p.iov[0].iov_base, bytes + 750);
	assert_int_equal(file_slice(&at, &p, 1000), 0);
}

/* Another process may clean up: spares vanish before, and files in the middle of being written. */
TEST(a_put_survives_the_cleaning_of_its_file)
{
	struct fix f;
	struct slot put;
	struct store_pace slow = {.piece_bytes = 4096, .pieces_in_flight = 1};
	char *b = util_bytes(1, 4 * MB), *got = util_bytes(3, 4 * MB);

	set_up(&f);
	assert_int_equal(util_put(f.s, "vm/keep", b, 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 4 * MB), 0);
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(rename(path(&f, "/.spare"), path(&f, "/gone")), 0);
	assert_int_equal(util_put(f.s, "vm/2", b, 4 * MB), 0);
	submit(&f, &put, STORE_PUT, "vm/3", b, 4 * MB);
	put.r.pace = &slow;
	while (entries(path(&f, "/.spare")) < 1)
		loop_poll(f.l, 1000000);
	assert_int_equal(rename(path(&f, "/.spare"), path(&f, "/gone2")), 0);
	wait_for(&f, &put);
	assert_int_equal(put.status, 0);
	assert_int_equal(util_get(f.s, "vm/3", 0, got, 4 * MB), 4 * MB);
	assert_memory_equal(got, b, 4 * MB);
	close_it(&f);
	free(b);
	free(got);
}

/* More objects than files are kept open. */
TEST(many_objects_are_read_with_few_files)
{
	enum { N = 300, LEN = 300 << 10 };
	struct fix f;
	char *b = util_bytes(1, LEN + N), *got = util_bytes(2, 8192), name[32];

	set_up(&f);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "vm/%d", i);
		assert_int_equal(util_put(f.s, name, b + i, LEN), 0);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			snprintf(name, sizeof(name), "vm/%d", i);
			assert_int_equal(util_get(f.s, name, 4096, got, 4096), 4096);
			assert_memory_equal(got, b + i + 4096, 4096);
		}
	}
	assert_in_range(entries("/proc/self/fd"), 200, 280);
	close_it(&f);
	free(b);
	free(got);
}

/* ---- disks that are full or read-only ---- */

/* A mount namespace of our own, so that mounts go away with this process.  From the very start: the
 * kernel's io_uring workers stay in the one they began in. */
static bool own_mounts;

__attribute__((constructor)) static void unshare_mounts(void)
{
	own_mounts = !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static bool mount_tmpfs(struct fix *f, const char *options)
{
	name_it(f);
	assert_int_equal(mkdir(f->dir, 0777), 0);
	return own_mounts && !mount("tmpfs", f->dir, "tmpfs", 0, options);
}

TEST(a_full_disk)
{
	struct fix f;
	char *b, *got;

	if (!mount_tmpfs(&f, "size=4m"))
		SKIP("mounting a small tmpfs needs root");
	b = util_bytes(1, 3 * MB);
	got = util_bytes(2, 3 * MB);
	open_it(&f, 0);
	assert_int_equal(util_swap(f.s, "vm/super", "", "s", 1), 0);
	assert_int_equal(util_put(f.s, "vm/1", b, 3 * MB), 0);
	assert_int_equal(util_put(f.s, "vm/2", b, 3 * MB), -ENOSPC);
	assert_non_null(strstr(util_err.msg, "No space left"));
	assert_int_equal(entries(path(&f, "/.spare")), 0);
	assert_string_equal(util_list(f.s, ""), "vm/1:3145728 vm/super:1 ");
	assert_int_equal(util_delete(f.s, "vm/1"), 0);
	assert_int_equal(util_put(f.s, "vm/2", b, 3 * MB), 0);
	assert_int_equal(util_get(f.s, "vm/2", 0, got, 3 * MB), 3 * MB);
	assert_memory_equal(b, got, 3 * MB);
	close_it(&f);
	assert_int_equal(umount(f.dir), 0);
	free(b);
	free(got);
}

TEST(a_read_only_directory)
{
	struct fix f;
	char c;

	if (!mount_tmpfs(&f, "size=4m"))
		SKIP("mounting a small tmpfs needs root");
	open_it(&f, 0);
	assert_int_equal(util_put(f.s, "vm/1", "x", 1), 0);
	close_it(&f);
	assert_int_equal(mount(NULL, f.dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	open_it(&f, STORE_CREATE);
	assert_int_equal(util_get(f.s, "vm/1", 0, &c, 1), 1);
	assert_string_equal(util_list(f.s, ""), "vm/1:1 ");
	assert_int_equal(util_put(f.s, "vm/2", "x", 1), -EROFS);
	assert_non_null(strstr(util_err.msg, "vm/2"));
	assert_non_null(strstr(util_err.msg, "Read-only"));
	assert_int_equal(util_swap(f.s, "vm/s", "", "x", 1), -EROFS);
	assert_int_equal(util_delete(f.s, "vm/1"), -EROFS);
	assert_int_equal(util_lock(f.s, "vm", "me"), -EROFS);
	close_it(&f);
	assert_int_equal(umount(f.dir), 0);
}

/* ---- other processes ---- */

static void child_locks(struct fix *f, int ready)
{
	open_it(f, 0);
	if (util_lock(f->s, "vm", "the child"))
		_exit(1);
	(void)!write(ready, "x", 1);
	pause();
	_exit(0);
}

TEST(a_lock_dies_with_its_process)
{
	struct fix f;
	int ready[2], status;
	pid_t pid;
	char c;

	set_up(&f);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid)
		child_locks(&f, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(util_lock(f.s, "vm", "the parent"), -EBUSY);
	assert_non_null(strstr(util_err.msg, "the child"));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(util_lock(f.s, "vm", "the parent"), 0);
	close(ready[0]);
	close_it(&f);
}

enum { CHILDREN = 3, INCREMENTS = 30 };

/* Read, add one, swap; again when somebody else was faster. */
static void child_counts(struct fix *f)
{
	char tag[STORE_TAG_MAX], text[32] = {0};

	open_it(f, 0);
	for (int i = 0; i < INCREMENTS;) {
		int64_t n = util_get(f->s, "vm/super", 0, text, sizeof(text) - 1);

		if (n < 0)
			_exit(1);
		text[n] = 0;
		memcpy(tag, util_tag, sizeof(tag));
		snprintf(text, sizeof(text), "%d", atoi(text) + 1);
		n = util_swap(f->s, "vm/super", tag, text, strlen(text));
		if (n && n != -ESTALE)
			_exit(2);
		i += !n;
	}
	close_it(f);
	_exit(0);
}

TEST(swaps_of_several_processes_lose_nothing)
{
	struct fix f;
	char text[32] = {0};
	int status;

	set_up(&f);
	assert_int_equal(util_swap(f.s, "vm/super", "", "0", 1), 0);
	for (int i = 0; i < CHILDREN; i++)
		if (!fork())
			child_counts(&f);
	for (int i = 0; i < CHILDREN; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_true(util_get(f.s, "vm/super", 0, text, 31) > 0);
	assert_int_equal(atoi(text), CHILDREN * INCREMENTS);
	close_it(&f);
}

/* Whoever changes an object of an image holds a lock on its directory meanwhile. */
TEST(a_process_that_stopped_in_a_swap_hinders_no_thief)
{
	char tag[STORE_TAG_MAX];
	struct store *thief;
	struct fix f;
	int fd;

	set_up(&f);
	assert_int_equal(util_lock(f.s, "vm", "the stopped one"), 0);
	assert_int_equal(util_swap(f.s, "vm/super", "", "one", 3), 0);
	memcpy(tag, util_tag, sizeof(tag));
	fd = open(path(&f, "/vm"), O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	write_file(path(&f, "/.spare/w-vm~0000000000000001-1"), "mine");
	write_file(path(&f, "/.spare/w-vm2~0000000000000001-1"), "another image's");
	thief = util_open(f.l, f.url, 0);
	assert_int_equal(util_swap(thief, "vm/clones", "", "x", 1), -EAGAIN); /* no thief yet */
	assert_int_equal(util_steal(thief, "vm", "the thief"), 0);
	assert_int_equal(util_swap(thief, "vm/super", tag, "two", 3), 0);
	/* It cannot be renamed any more. */
	assert_int_equal(inode(path(&f, "/.spare/w-vm~0000000000000001-1")), 0);
	assert_int_not_equal(inode(path(&f, "/.spare/w-vm2~0000000000000001-1")), 0);
	close(fd);
	assert_int_equal(util_swap(f.s, "vm/super", util_tag, "no", 2), -ESTALE);
	store_close(thief);
	close_it(&f);
}

enum { LOCKS = 60 };

/* Take the lock, be alone, give it back: the image is empty, so its directory comes and goes. */
static void child_locks_often(struct fix *f)
{
	const char *inside = path(f, ".inside");
	int fd;

	open_it(f, 0);
	for (int i = 0; i < LOCKS;) {
		int64_t rc = util_lock(f->s, "vm", "a child");

		if (rc == -EBUSY)
			continue;
		fd = rc ? -1 : open(inside, O_CREAT | O_EXCL | O_WRONLY, 0666);
		if (fd < 0)
			_exit(1);
		close(fd);
		sched_yield();
		if (unlink(inside) || util_unlock(f->s, "vm"))
			_exit(2);
		i++;
	}
	close_it(f);
	_exit(0);
}

TEST(locks_of_several_processes_exclude)
{
	struct fix f;
	int status;

	set_up(&f);
	for (int i = 0; i < CHILDREN; i++)
		if (!fork())
			child_locks_often(&f);
	for (int i = 0; i < CHILDREN; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	close_it(&f);
	assert_int_equal(entries(f.dir), 0);
}
