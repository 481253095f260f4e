/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dump.c - `lsvd dump IMAGE|FILE...`: every field of every structure.
 *
 * Of an image: superblock, checkpoints, object headers, boot profile and list of clones, all that
 * its store has under its name, in order.  Of a file: what its first bytes say it is.  Nothing is
 * interpreted further; whether the parts fit together is for `lsvd fsck` to say.  Exit code 1 when
 * anything printed is damaged.
 */
#include "cli/dump.h"

#include "cli/cli.h"
#include "cli/store.h"
#include "format/superblock.h"
#include "volume/fsck_impl.h"
#include "volume/volume.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_SUPER = 0x1000, OPT_CHECKPOINT, OPT_OBJECT, OPT_PROFILE, OPT_AS, WORDS_MAX = 64 };

struct args {
	struct cli_open open;
	struct dump d;
	const char *word[WORDS_MAX];
	bool is_file[WORDS_MAX];
	unsigned words;
	const char *as;
	/* of an image, only this; none: all */
	bool super, profile, has_checkpoint, has_object;
	uint64_t checkpoint, object;
};

static const struct argp_option options[] = {
	{"file", 'f', "PATH", 0, "a file, also when its name looks like an image's", 0},
	{"as", OPT_AS, "KIND", 0,
		"take the file for a pool, object, checkpoint, superblock, profile or clones, "
		"whatever its "
		"first bytes are",
		0},
	{"super", OPT_SUPER, NULL, 0, "of an image only the superblock", 1},
	{"checkpoint", OPT_CHECKPOINT, "N", 0, "only checkpoint N, with its tables and the map", 1},
	{"object", OPT_OBJECT, "SEQ", 0, "only data object SEQ, with its extents and checksums", 1},
	{"profile", OPT_PROFILE, NULL, 0, "only the boot profile, with its ranges", 1},
	{"all", 'a', NULL, 0, "all lists too: extents, checksums, tables, entries, records", 2},
	{"records", 'r', NULL, 0, "of a pool also journal records and cache summaries", 2},
	{"json", 'j', NULL, 0, "print JSON, one structure a line", 2},
	{0},
};

static uint64_t number(struct argp_state *s, const char *arg)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(arg, &end, 10);
	if (errno || end == arg || *end || *arg == '-')
		argp_error(s, "'%s' is not a number", arg);
	return n;
}

static void add_word(struct argp_state *s, const char *arg, bool is_file)
{
	struct args *a = s->input;

	if (a->words == WORDS_MAX)
		argp_error(s, "more than %d arguments", WORDS_MAX);
	a->is_file[a->words] = is_file;
	a->word[a->words++] = arg;
}

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = &a->open;
		return 0;
	case 'f':
		add_word(s, arg, true);
		return 0;
	case OPT_AS:
		a->as = arg;
		return 0;
	case OPT_SUPER:
		a->super = true;
		return 0;
	case OPT_PROFILE:
		a->profile = a->d.all = true;
		return 0;
	case OPT_CHECKPOINT:
		a->has_checkpoint = a->d.all = true;
		a->checkpoint = number(s, arg);
		return 0;
	case OPT_OBJECT:
		a->has_object = a->d.all = true;
		a->object = number(s, arg);
		return 0;
	case 'a':
		a->d.all = true;
		return 0;
	case 'r':
		a->d.records = true;
		return 0;
	case 'j':
		a->d.json = true;
		return 0;
	case ARGP_KEY_ARG:
		add_word(s, arg, !access(arg, F_OK) || !strchr(arg, ':'));
		return 0;
	case ARGP_KEY_END:
		if (!a->words)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {{&cli_config_argp, 0, NULL, 10}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.children = kids,
	.args_doc = "IMAGE|FILE...",
	.doc = "Print the structures an image, a pool or a single stored file consists of, also "
	       "damaged "
	       "ones, as far as they go: what is wrong follows after `!!`.\v"
	       "Exit codes: 0 done, 1 something is damaged or could not be read, 2 usage.\n"
	       "example: lsvd dump file:/srv/vols/vm1 --object 17\n"
	       "example: lsvd dump --records /var/lib/lsvd/pool",
};

/* ---- files ---- */

static int64_t file_read(struct dump_source *s, uint64_t off, void *buf, uint64_t len)
{
	int fd = *(int *)s->arg;
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (uint64_t)n;
	}
	return (int64_t)done;
}

struct kind {
	const char *name, *magic;
	void (*print)(struct dump *d, struct dump_source *s);
};

static void any_object(struct dump *d, struct dump_source *s)
{
	dump_object(d, s, NULL);
}
static void any_checkpoint(struct dump *d, struct dump_source *s)
{
	dump_checkpoint(d, s, NULL);
}

int dump_any(struct dump *d, struct dump_source *s, const char *as, struct err *e)
{
	static const struct kind kinds[] = {
		{"pool", "LSVDpool", dump_pool},
		{"superblock", "LSVDsupr", dump_super},
		{"object", "LSVDdata", any_object},
		{"checkpoint", "LSVDckpt", any_checkpoint},
		{"profile", "LSVDprof", dump_profile},
		{"clones", "LSVDclns", dump_clones},
	};
	char magic[8] = "";
	int64_t n = s->read(s, 0, magic, 8);

	if (n < 0)
		return err_set(e, (int)n, "%s: %s", s->name, strerror((int)-n));
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (as ? !strcmp(as, kinds[i].name) : !memcmp(magic, kinds[i].magic, 8)) {
			kinds[i].print(d, s);
			return 0;
		}
	if (as)
		return err_set(e, -EINVAL,
			"--as: '%s' is none of pool, object, checkpoint, superblock, profile, "
			"clones",
			as);
	if (!memcmp(magic, "LSVDTRAC", 8))
		return err_set(e, -EUCLEAN, "%s is a trace: `lsvd trace dump %s` prints it",
			s->name, s->name);
	return err_set(e, -EUCLEAN,
		"%s: its first bytes are not those of any LSVD file; --as says what it is",
		s->name);
}

static int one_file(struct args *a, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	struct dump_source s = {
		.name = path, .size_bytes = (uint64_t)size, .read = file_read, .arg = &fd};
	struct err e = {.msg = ""};

	if (size < 0) {
		rc = cli_fail("%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rc = dump_any(&a->d, &s, a->as, &e);
	close(fd);
	if (rc < 0)
		cli_fail("%s", err_text(&e, rc));
	return rc == -EINVAL ? CLI_USAGE : rc < 0 ? CLI_FAILED : CLI_OK;
}

/* ---- images ---- */

struct image {
	struct args *a;
	struct cli_store st;
	struct dump_identity id;
	struct fsck_name *names;
	uint32_t n, cap;
	bool found;
};

struct listing {
	struct store_req req;
	struct image *im;
};

static int64_t object_read(struct dump_source *s, uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct store_req r = {.op = STORE_GET,
		.name = s->name,
		.iov = &iov,
		.iovcnt = 1,
		.off_bytes = off,
		.len_bytes = len};

	return store_wait(s->arg, &r);
}

static int note_name(struct store_req *r, const char *name, uint64_t size)
{
	struct image *im = ((struct listing *)r)->im;
	uint32_t n = im->n;

	if (fsck_grow(&im->names, n, &im->cap, sizeof(*im->names)) < 0)
		return -ENOMEM;
	snprintf(im->names[n].name, STORE_NAME_MAX, "%s", name);
	im->names[im->n++].size_bytes = size;
	return 0;
}

static int list_names(struct image *im, struct err *e)
{
	char prefix[STORE_NAME_MAX];
	struct listing l = {.im = im};

	snprintf(prefix, sizeof(prefix), "%s/", im->st.name);
	l.req = (struct store_req){.op = STORE_LIST, .name = prefix, .item = note_name, .err = e};
	return (int)store_wait(im->st.store, &l.req);
}

/* Whose objects these should be, if the superblock can tell. */
static void learn_identity(struct image *im)
{
	struct superblock *sb = calloc(1, sizeof(*sb));

	if (sb && volume_read_superblock(im->st.store, im->st.name, sb, NULL, NULL) == 0) {
		memcpy(im->id.uuid, sb->uuid, 16);
		im->id.has_uuid = true;
	}
	im->id.has_name = true;
	free(sb);
}

enum part { PART_SUPER, PART_CHECKPOINT, PART_OBJECT, PART_PROFILE, PART_CLONES, PART_OTHER };

static enum part part_of(struct image *im, const char *name)
{
	const char *s = strchr(name, '/') + 1;

	if (!strcmp(s, "super"))
		return PART_SUPER;
	if (!strcmp(s, "profile"))
		return PART_PROFILE;
	if (!strcmp(s, "clones"))
		return PART_CLONES;
	if (fsck_parse_checkpoint(s, &im->id.epoch, &im->id.number))
		return PART_CHECKPOINT;
	return fsck_parse_object(s, &im->id.epoch, &im->id.number) ? PART_OBJECT : PART_OTHER;
}

static bool wanted(const struct image *im, enum part p)
{
	const struct args *a = im->a;

	if (!a->super && !a->profile && !a->has_checkpoint && !a->has_object)
		return true;
	return (p == PART_SUPER && a->super) || (p == PART_PROFILE && a->profile) ||
	       (p == PART_CHECKPOINT && a->has_checkpoint && a->checkpoint == im->id.number) ||
	       (p == PART_OBJECT && a->has_object && a->object == im->id.number);
}

static void one_object(struct image *im, enum part p, const struct fsck_name *n)
{
	struct dump *d = &im->a->d;
	struct dump_source s = {.name = n->name,
		.size_bytes = n->size_bytes,
		.read = object_read,
		.arg = im->st.store};
	json_t *x;

	im->found = true;
	switch (p) {
	case PART_SUPER:
		dump_super(d, &s);
		return;
	case PART_CHECKPOINT:
		dump_checkpoint(d, &s, &im->id);
		return;
	case PART_OBJECT:
		dump_object(d, &s, &im->id);
		return;
	case PART_PROFILE:
		dump_profile(d, &s);
		return;
	case PART_CLONES:
		dump_clones(d, &s);
		return;
	case PART_OTHER:
		x = dump_new("stray", n->name);
		dump_int(x, "bytes", n->size_bytes);
		dump_problem(d, x, "not a part of an image");
		dump_emit(d, x);
		return;
	}
}

/* Superblock, checkpoints, objects, profile, the rest; LIST's order within each. */
static int walk_image(struct image *im, struct err *e)
{
	int rc = list_names(im, e);

	if (rc < 0)
		return rc;
	if (!im->n)
		return err_set(e, -ENOENT, "the store has nothing of an image '%s'", im->st.name);
	learn_identity(im);
	for (enum part p = PART_SUPER; p <= PART_OTHER; p++)
		for (uint32_t i = 0; i < im->n && !cli_interrupted; i++)
			if (part_of(im, im->names[i].name) == p && wanted(im, p))
				one_object(im, p, &im->names[i]);
	return im->found ? 0 : err_set(e, -ENOENT, "image '%s' has no such part", im->st.name);
}

static int one_image(struct args *a, const char *url)
{
	struct image im = {.a = a};
	struct err e = {.msg = ""};
	int rc = cli_store_open(&a->open, url, &im.st);

	if (rc)
		return rc;
	rc = walk_image(&im, &e);
	cli_store_close(&im.st);
	free(im.names);
	return rc < 0 ? cli_fail("%s", err_text(&e, rc)) : CLI_OK;
}

static int run(int argc, char **argv)
{
	struct args a = {.d = {.out = stdout}};
	int worst = CLI_OK;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	cli_catch_signals();
	for (unsigned i = 0; i < a.words && !cli_interrupted; i++) {
		int rc = a.is_file[i] ? one_file(&a, a.word[i]) : one_image(&a, a.word[i]);

		if (rc > worst)
			worst = rc;
	}
	if (worst == CLI_OK && (a.d.problems || cli_interrupted))
		worst = CLI_FAILED;
	return worst;
}
CLI_COMMAND(dump, "print the structures of an image, pool or file", run)
