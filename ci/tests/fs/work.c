/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * work.c - a workload on a mounted file system that notes what it was promised, and the check of
 * what a crash left of it.
 *
 *   work run DIR TREE LOG MARKS SEED     copy TREE, make files and databases come and go in DIR
 *   work check IMAGE TYPE MARKS POS      mount IMAGE (ext4, xfs), look for all that was promised
 * when the log was POS bytes long, unmount, check the file system; exit code 1 when something is
 * wrong with it, 2 when it could not be checked
 *
 * MARKS has a line for each promise: the length of the recorder's log when it was given, then
 *   F PATH HASH   fsync of the file, and of its directory, has returned
 *   X PATH        it is about to be removed: nothing is promised about it any more
 *   D PATH        it was removed, and fsync of its directory has returned
 *   S PATH N      the database has committed transaction N
 */
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_LEN = 512, FILES = 64, KEPT = 400, FILE_BYTES = 150000 };

static uint64_t seed;

static uint64_t draw(uint64_t n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dull >> 16) % n;
}

static uint64_t hash(uint64_t h, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ ((const uint8_t *)buf)[i]) * 0x100000001b3ull;
	return h;
}

static bool hash_file(const char *path, uint64_t *h)
{
	static uint8_t buf[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	*h = 0xcbf29ce484222325ull;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		*h = hash(*h, buf, (size_t)n);
	close(fd);
	return n == 0;
}

/* ---- running: what the recorder's log shows by its length ---- */

static const char *log_name, *top;
static FILE *marks;

static unsigned long long log_bytes(void)
{
	struct stat st;

	if (stat(log_name, &st) < 0)
		err(1, "%s", log_name);
	return (unsigned long long)st.st_size;
}

__attribute__((format(printf, 1, 2))) static void mark(const char *fmt, ...)
{
	va_list ap;

	fprintf(marks, "%llu ", log_bytes());
	va_start(ap, fmt);
	vfprintf(marks, fmt, ap);
	va_end(ap);
	fprintf(marks, "\n");
	fflush(marks);
}

static const char *below(const char *path)
{
	return path + strlen(top) + 1;
}

static void mark_file(const char *path)
{
	uint64_t h;

	if (!hash_file(path, &h))
		err(1, "%s", path);
	mark("F %s %016llx", below(path), (unsigned long long)h);
}

static void sync_path(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	if (fd < 0 || fsync(fd) < 0)
		err(1, "fsync %s", path);
	close(fd);
}

static void put_bytes(int fd, size_t len)
{
	static uint64_t buf[FILE_BYTES / 8 + 8];
	bool text = draw(3) == 0; /* compressible, repetitive */

	for (size_t i = 0; i <= len / 8; i++)
		buf[i] = text ? 0x6c6f67206c6f6720ull + i / 64 : draw(UINT64_MAX);
	if (len && write(fd, buf, len) != (ssize_t)len)
		err(1, "write");
}

/* ---- a tree is copied ---- */

static void copy_file(const char *from, const char *to)
{
	static char buf[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC),
	    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n;

	if (in < 0 || out < 0)
		err(1, "copy %s to %s", from, to);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			err(1, "%s", to);
	close(in);
	close(out);
}

static void copy_tree(const char *from, const char *to, bool promise)
{
	DIR *d = opendir(from);
	struct dirent *e;
	struct stat st;

	if (!d || (!promise && mkdir(to, 0755) < 0))
		err(1, "%s", from);
	while ((e = readdir(d))) {
		char a[PATH_LEN], b[PATH_LEN];

		snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
		if (e->d_name[0] == '.' || stat(a, &st) < 0 || strpbrk(e->d_name, " \n"))
			continue;
		if (S_ISDIR(st.st_mode))
			copy_tree(a, b, promise);
		else if (promise)
			mark_file(b);
		else
			copy_file(a, b);
	}
	closedir(d);
}

/* ---- files come and go ---- */

static unsigned kept[KEPT], nkept, next_kept;

static void keep_one(void)
{
	char tmp[PATH_LEN], path[PATH_LEN], dir[PATH_LEN];
	int fd;

	snprintf(dir, sizeof(dir), "%s/s/d%u", top, (unsigned)draw(4));
	snprintf(tmp, sizeof(tmp), "%s/tmp", dir);
	snprintf(path, sizeof(path), "%s/keep%u", dir, next_kept);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		err(1, "%s", tmp);
	put_bytes(fd, draw(4) ? draw(9000) : draw(FILE_BYTES));
	if (fsync(fd) < 0 || close(fd) < 0 || rename(tmp, path) < 0)
		err(1, "%s", path);
	sync_path(dir, O_DIRECTORY);
	mark_file(path);
	if (nkept < KEPT)
		kept[nkept++] = next_kept;
	next_kept++;
}

static void drop_one(void)
{
	char path[PATH_LEN], dir[PATH_LEN];
	unsigned i, which;

	if (!nkept)
		return;
	i = (unsigned)draw(nkept);
	which = kept[i];
	kept[i] = kept[--nkept];
	for (unsigned d = 0; d < 4; d++) {
		snprintf(dir, sizeof(dir), "%s/s/d%u", top, d);
		snprintf(path, sizeof(path), "%s/keep%u", dir, which);
		if (access(path, F_OK) < 0)
			continue;
		mark("X %s", below(path));
		if (unlink(path) < 0)
			err(1, "%s", path);
		sync_path(dir, O_DIRECTORY);
		mark("D %s", below(path));
	}
}

/* Nothing is promised about these. */
static void change_one(void)
{
	char a[PATH_LEN], b[PATH_LEN];
	int fd;

	snprintf(a, sizeof(a), "%s/s/d%u/f%u", top, (unsigned)draw(4), (unsigned)draw(FILES));
	snprintf(b, sizeof(b), "%s/s/d%u/f%u", top, (unsigned)draw(4), (unsigned)draw(FILES));
	switch (draw(10)) {
	case 0:
		(void)!unlink(a);
		return;
	case 1:
		(void)!rename(a, b);
		return;
	case 2:
		(void)!link(a, b);
		return;
	case 3:
		(void)!symlink("f1", b);
		return;
	case 4:
		(void)!truncate(a, (off_t)draw(FILE_BYTES));
		return;
	case 5:
		(void)!mkdir(b, 0755);
		return;
	case 6:
		(void)!rmdir(b);
		return;
	default:
		break;
	}
	fd = open(a, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (draw(2) ? O_APPEND : 0), 0644);
	if (fd < 0)
		return;
	(void)!lseek(fd, (off_t)draw(FILE_BYTES), SEEK_SET);
	put_bytes(fd, draw(3) ? draw(5000) : draw(40000));
	if (draw(8) == 0)
		(void)!fallocate(
			fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)draw(30000), 8192);
	if (draw(6) == 0 && fsync(fd) < 0)
		err(1, "fsync");
	close(fd);
}

static void come_and_go(unsigned n)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), "%s/s", top);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		err(1, "%s", path);
	for (unsigned d = 0; d < 4; d++) {
		snprintf(path, sizeof(path), "%s/s/d%u", top, d);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			err(1, "%s", path);
	}
	snprintf(path, sizeof(path), "%s/s", top);
	sync_path(path, O_DIRECTORY);
	sync_path(top, O_DIRECTORY);
	for (unsigned i = 0; i < n; i++) {
		uint64_t what = draw(12);

		if (what == 0)
			drop_one();
		else if (what <= 3)
			keep_one();
		else
			change_one();
	}
}

/* ---- databases ---- */

static void sql(sqlite3 *db, const char *text)
{
	char *why = NULL;

	if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
		errx(1, "%s: %s", text, why);
}

/* EXTRA: the directory is synced when the rollback journal is removed, too. */
static void transactions(const char *name, bool wal, unsigned n)
{
	char path[PATH_LEN], text[300];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		errx(1, "%s: %s", path, sqlite3_errmsg(db));
	sql(db, wal ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA "
		      "wal_autocheckpoint=40"
		    : "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA");
	sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, b BLOB); "
		"CREATE TABLE total(n INTEGER); INSERT INTO total VALUES(0)");
	for (unsigned i = 1; i <= n; i++) {
		unsigned rows = 1 + (unsigned)draw(4);

		sql(db, "BEGIN");
		for (unsigned k = 0; k < rows; k++) {
			snprintf(text, sizeof(text),
				"INSERT INTO t(n, b) VALUES(%u, randomblob(%u))", i,
				(unsigned)draw(3000));
			sql(db, text);
		}
		snprintf(text, sizeof(text),
			"DELETE FROM t WHERE id %% 7 = %u AND n < %u; "
			"UPDATE total SET n = %u",
			(unsigned)draw(7), i / 2, i);
		sql(db, text);
		sql(db, "COMMIT");
		mark("S %s %u", name, i);
	}
	sqlite3_close(db);
}

static int run(char **argv)
{
	char to[PATH_LEN];

	top = argv[0];
	log_name = argv[2];
	marks = fopen(argv[3], "we");
	seed = strtoull(argv[4], NULL, 0) * 2654435761u + 88172645463325252ull;
	if (!marks)
		err(1, "%s", argv[3]);
	come_and_go(150);
	snprintf(to, sizeof(to), "%s/tree", top);
	copy_tree(argv[1], to, false);
	sync();
	copy_tree(argv[1], to, true);
	transactions("rollback.db", false, 40);
	come_and_go(200);
	transactions("wal.db", true, 60);
	come_and_go(100);
	return fclose(marks) ? 1 : 0;
}

/* ---- checking ---- */

static int problems;

__attribute__((format(printf, 1, 2))) static void problem(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	problems++;
}

struct promise {
	char kind, path[300];
	uint64_t value;
};

static int text_of(void *arg, int n, char **v, char **names)
{
	(void)n;
	(void)names;
	snprintf(arg, 100, "%s", v[0] ? v[0] : "");
	return 0;
}

static void ask(sqlite3 *db, const char *question, char *answer)
{
	char *why = NULL;

	answer[0] = 0;
	if (sqlite3_exec(db, question, text_of, answer, &why) != SQLITE_OK)
		snprintf(answer, 100, "%s", why ? why : "error");
	sqlite3_free(why);
}

static void check_database(const char *path, uint64_t committed)
{
	char ok[100], n[100], last[100];
	sqlite3 *db;

	if (access(path, F_OK) < 0) {
		problem("%s is gone; transaction %llu was committed", path,
			(unsigned long long)committed);
		return;
	}
	if (sqlite3_open(path, &db) != SQLITE_OK)
		problem("%s: %s", path, sqlite3_errmsg(db));
	ask(db, "PRAGMA integrity_check", ok);
	ask(db, "SELECT n FROM total", n);
	ask(db, "SELECT max(n) FROM t", last);
	if (strcmp(ok, "ok") || strcmp(n, last) || strtoull(n, NULL, 10) < committed)
		problem("%s: %s; it has transaction %s (rows of %s), %llu was committed", path, ok,
			n, last, (unsigned long long)committed);
	sqlite3_close(db);
}

/* The later promise about a path counts. */
static size_t read_promises(const char *name, uint64_t pos, struct promise **out)
{
	FILE *f = fopen(name, "re");
	struct promise *all = NULL;
	char line[PATH_LEN], value[40];
	size_t n = 0, room = 0;

	if (!f)
		err(2, "%s", name);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long at;
		struct promise p;
		size_t i = 0;

		value[0] = 0;
		if (sscanf(line, "%llu %c %299s %39s", &at, &p.kind, p.path, value) < 3 || at > pos)
			continue;
		p.value = strtoull(value, NULL, p.kind == 'F' ? 16 : 10);
		while (i < n && strcmp(all[i].path, p.path))
			i++;
		if (i == room && !(all = realloc(all, (room = 2 * room + 64) * sizeof(*all))))
			err(2, "memory");
		all[i] = p;
		n += i == n;
	}
	fclose(f);
	*out = all;
	return n;
}

static void check_promises(const char *dir, const char *name, uint64_t pos)
{
	struct promise *all = NULL;
	size_t n = read_promises(name, pos, &all);

	for (size_t i = 0; i < n; i++) {
		char path[2 * PATH_LEN];
		uint64_t h;

		snprintf(path, sizeof(path), "%s/%s", dir, all[i].path);
		if (all[i].kind == 'F' && !hash_file(path, &h))
			problem("%s was fsynced: %s", all[i].path, strerror(errno));
		else if (all[i].kind == 'F' && h != all[i].value)
			problem("%s was fsynced, and holds something else", all[i].path);
		else if (all[i].kind == 'D' && access(path, F_OK) == 0)
			problem("%s was removed, and is there again", all[i].path);
		else if (all[i].kind == 'S')
			check_database(path, all[i].value);
	}
	printf("%zu promises\n", n);
	free(all);
}

/* A loop device that goes when it is unmounted. */
static int attach(const char *image, char *name, size_t len)
{
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC),
	    fd = open(image, O_RDWR | O_CLOEXEC);

	if (ctl < 0 || fd < 0)
		err(2, "loop device for %s", image);
	for (int tries = 0; tries < 50; tries++) {
		struct loop_config c = {
			.fd = (uint32_t)fd, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
		int n = ioctl(ctl, LOOP_CTL_GET_FREE), dev;

		snprintf(name, len, "/dev/loop%d", n);
		dev = n < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
		if (dev >= 0 && ioctl(dev, LOOP_CONFIGURE, &c) == 0) {
			close(ctl);
			close(fd);
			return dev;
		}
		if (dev >= 0)
			close(dev);
		usleep(10000);
	}
	err(2, "no free loop device");
}

static bool attached(const char *dev, ino_t image)
{
	struct loop_info64 info;
	int fd = open(dev, O_RDONLY | O_CLOEXEC);
	bool yes = fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == image;

	if (fd >= 0)
		close(fd);
	return yes;
}

/*
 * After umount, a mount namespace that somebody made meanwhile may still hold a copy of the mount.
 * The file system then lives on: its log is dirty, which fsck takes for damage, and what it writes
 * later goes into the state that is checked next.
 */
static void await_detached(const char *dev, const char *image)
{
	enum { SECONDS = 60, STEP_US = 10000 };
	struct stat st;

	if (stat(image, &st) < 0)
		err(2, "%s", image);
	for (int tries = 0; attached(dev, st.st_ino); tries++) {
		if (tries == SECONDS * (1000000 / STEP_US))
			errx(2,
				"%s is unmounted, but still on %s after %d s: another mount "
				"namespace "
				"holds it (look for it in /proc/*/mountinfo)",
				image, dev, SECONDS);
		usleep(STEP_US);
	}
}

static void fsck(const char *type, const char *image)
{
	char cmd[PATH_LEN + 100];
	int rc;

	snprintf(cmd, sizeof(cmd),
		!strcmp(type, "xfs") ? "xfs_repair -n -f '%s' 2>&1" : "e2fsck -fn '%s' 2>&1",
		image);
	fflush(stdout);
	rc = system(cmd);
	if (rc == -1)
		err(2, "%s", cmd);
	if (WIFSIGNALED(rc))
		problem("%s: signal %d", cmd, WTERMSIG(rc));
	else if (rc)
		problem("%s: exit code %d", cmd, WEXITSTATUS(rc));
}

static int check(char **argv)
{
	const char *image = argv[0], *type = argv[1];
	char dir[PATH_LEN], dev[64];
	int fd = attach(image, dev, sizeof(dev));

	snprintf(dir, sizeof(dir), "%s.mnt", image);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		err(2, "%s", dir);
	/* Mounting replays the file system's own log. */
	if (mount(dev, dir, type, MS_NOATIME, !strcmp(type, "xfs") ? "nouuid" : "errors=continue") <
		0) {
		problem("mount: %s", strerror(errno));
		close(fd);
		return 1;
	}
	close(fd);
	check_promises(dir, argv[2], strtoull(argv[3], NULL, 10));
	if (umount(dir) < 0)
		err(2, "umount %s", dir);
	await_detached(dev, image);
	fsck(type, image);
	return problems ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 7 && !strcmp(argv[1], "run"))
		return run(argv + 2);
	if (argc == 6 && !strcmp(argv[1], "check"))
		return check(argv + 2);
	fprintf(stderr, "usage: work run DIR TREE LOG MARKS SEED\n"
			"       work check IMAGE TYPE MARKS POS\n");
	return 2;
}
