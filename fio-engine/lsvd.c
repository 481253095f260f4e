/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lsvd.c - the fio engine: an adapter between fio's calls and lsvd.h, nothing else.
 *
 * setup() runs in fio's main thread for every job before any job starts.  There the image is
 * opened, once per process; jobs that name the same image share it (`struct disk`), and images with
 * the same settings share a context (`struct host`).  Jobs are threads (use_thread), since neither
 * a pool nor the library's threads survive a fork.  The last job to end closes the image and the
 * context.
 *
 * Each io_u carries its request (io_u_init), whose completion puts the io_u on the job's ring, from
 * where getevents() hands them out; nothing is allocated, nothing copied per I/O.  With inline
 * drive the job's thread is the library's loop while it waits in getevents(), so completions come
 * in batches and the loop is polled only when the ring has run dry.  When the job stays away for
 * long the library's caretaker may complete requests meanwhile: hence the atomic tail of the ring.
 * With thread drive each job has its own lsvd_queue.
 *
 * There is no commit(): the library's loop gathers by itself what was submitted since its last
 * turn.
 *
 * What can fail: headers of another fio version (fio has no stable ABI; setup() refuses), and all
 * that lsvd.h says, printed as `lsvd: ...`, with the errno as the job's error.
 */
#include "config-host.h"

#include "fio.h"
#include "optgroup.h"

#include "lsvd.h"

#include <stdatomic.h>
#include <sys/mman.h>

#ifndef LSVD_BUILT_FOR
#define LSVD_BUILT_FOR "another version of fio"
#endif

enum drive_option { DRIVE_AUTO, DRIVE_INLINE, DRIVE_THREAD };

struct options {
	void *pad; /* fio's */
	char *image, *pool, *mirror, *config, *set, *durability, *trace, *stats_json;
	unsigned long long create;
	unsigned int drive, readonly, no_journal, steal;
};

/* A context and its settings. */
struct host {
	char *key; /* its settings: see host_key() */
	enum lsvd_drive drive;
	struct lsvd_ctx *ctx;
	unsigned disks;
	struct host *next;
};

/* An open image. */
struct disk {
	struct host *host;
	struct lsvd_image *img;
	unsigned jobs, running; /* set up and not ended; of these, started */
	pid_t owner;		/* a forked child must leave it alone */
	struct disk *next;
	char url[];
};

/* One fio job: td->io_ops_data. */
struct job {
	struct disk *disk;
	struct lsvd_queue *queue; /* thread drive */
	struct lsvd_io **reaped;  /* thread drive: room for iodepth */
	struct io_u **ring;	  /* completed; `mask + 1` >= iodepth places */
	unsigned mask, head, given;
	_Atomic unsigned tail;
	atomic_bool unflushed; /* a write was acknowledged since the last flush was submitted */
	atomic_uint flushes;   /* in flight */
	bool written;	       /* a write was submitted since the last flush was */
	bool started;
	void *mem;
	size_t mem_len;
};

struct request {
	struct lsvd_io io; /* first: a completed lsvd_io is its request */
	struct iovec iov;
	struct io_u *u;
	struct job *job;
};

extern struct ioengine_ops ioengine __attribute__((visibility("default")));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the two lists and their counts */
static struct host *hosts;
static struct disk *disks;

#define ENGINE_OPTION .category = FIO_OPT_C_ENGINE, .group = FIO_OPT_G_INVALID
#define TEXT_OPTION(name_, lname_, help_)                                             \
	{                                                                             \
		.name = #name_, .lname = lname_, .type = FIO_OPT_STR_STORE,           \
		.off1 = offsetof(struct options, name_), .help = help_, ENGINE_OPTION \
	}
#define BOOL_OPTION(name_, lname_, help_)                                                          \
	{                                                                                          \
		.name = #name_, .lname = lname_, .type = FIO_OPT_BOOL,                             \
		.off1 = offsetof(struct options, name_), .def = "0", .help = help_, ENGINE_OPTION \
	}

/* clang-format off */
static struct fio_option options[] = {
	TEXT_OPTION(image, "LSVD image", "Image as STORE-URL/NAME, such as file:/srv/vols/vm1"),
	TEXT_OPTION(pool, "LSVD pool", "Local pool, as file:PATH or mem:SIZE (the key pool.path)"),
	TEXT_OPTION(mirror, "LSVD mirror", "More legs of the pool (the key pool.mirror)"),
	TEXT_OPTION(config, "LSVD configuration", "JSON file read on top of the system's and the user's"),
	TEXT_OPTION(set, "LSVD settings", "Settings as KEY=VALUE,KEY=VALUE (see lsvd.json(5))"),
	TEXT_OPTION(durability, "LSVD durability", "What a sync waits for: journal or store"),
	TEXT_OPTION(trace, "LSVD trace", "Record every request to this file"),
	TEXT_OPTION(stats_json, "LSVD statistics", "Write statistics to this file when the job ends"),
	{
		.name = "create", .lname = "LSVD create", .type = FIO_OPT_STR_VAL,
		.off1 = offsetof(struct options, create), .def = "0",
		.help = "Create the image with this size when there is none", ENGINE_OPTION,
	},
	{
		.name = "drive", .lname = "LSVD drive", .type = FIO_OPT_STR,
		.off1 = offsetof(struct options, drive), .def = "auto",
		.help = "Who runs the library's loop", ENGINE_OPTION,
		.posval = {
			{ .ival = "auto", .oval = DRIVE_AUTO,
			  .help = "inline for one job at a time, else thread" },
			{ .ival = "inline", .oval = DRIVE_INLINE, .help = "the job's own thread" },
			{ .ival = "thread", .oval = DRIVE_THREAD, .help = "a thread of the library" },
		},
	},
	BOOL_OPTION(readonly, "LSVD read-only", "Open the image read-only (so does fio --readonly)"),
	BOOL_OPTION(no_journal, "LSVD without its journal",
		"Open the image although its last writer's journal is not here"),
	BOOL_OPTION(steal, "LSVD steal", "Take the image over from a writer that has it"),
	{ .name = NULL },
};
/* clang-format on */

/* ---- sharing: hosts and disks ---- */

static bool same_text(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

static bool same_host(const struct options *a, const struct options *b)
{
	return same_text(a->pool, b->pool) && same_text(a->mirror, b->mirror) &&
	       same_text(a->config, b->config) && same_text(a->set, b->set) &&
	       same_text(a->durability, b->durability);
}

/* How many jobs with these settings run at the same time: a stonewall ends what was before it. */
static unsigned jobs_at_once(const struct options *o)
{
	unsigned n = 0, most = 0;

	for (unsigned i = 0; i < thread_number; i++) {
		struct thread_data *td = tnumber_to_td(i);

		if (td->o.stonewall)
			n = 0;
		if (td->io_ops == &ioengine && td->eo && same_host(o, td->eo))
			n++;
		if (n > most)
			most = n;
	}
	return most;
}

/* "a=b,c=d" */
static int apply_set(struct lsvd_config *cfg, const char *list, char *why)
{
	char *copy = strdup(list), *save = NULL;
	int rc = copy ? 0 : -ENOMEM;

	for (char *kv = copy ? strtok_r(copy, ",", &save) : NULL; kv && rc == 0;
		kv = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(kv, '=');

		if (eq) {
			*eq = 0;
			rc = lsvd_config_set(cfg, kv, eq + 1, why);
		} else {
			snprintf(why, LSVD_ERR_MAX, "set: '%s' is not KEY=VALUE", kv);
			rc = -EINVAL;
		}
	}
	free(copy);
	return rc;
}

static int make_config(const struct options *o, struct lsvd_config **out, char *why)
{
	struct lsvd_config *cfg = lsvd_config_new(why);
	int rc = cfg ? 0 : -EINVAL;

	if (rc == 0 && o->config)
		rc = lsvd_config_load(cfg, o->config, why);
	if (rc == 0 && o->set)
		rc = apply_set(cfg, o->set, why);
	if (rc == 0 && o->pool)
		rc = lsvd_config_set(cfg, "pool.path", o->pool, why);
	if (rc == 0 && o->mirror)
		rc = lsvd_config_set(cfg, "pool.mirror", o->mirror, why);
	if (rc == 0 && o->durability)
		rc = lsvd_config_set(cfg, "durability", o->durability, why);
	if (rc < 0) {
		lsvd_config_free(cfg);
		cfg = NULL;
	}
	*out = cfg;
	return rc;
}

static int choose_drive(const struct options *o, enum lsvd_drive *drive, char *why)
{
	unsigned jobs = jobs_at_once(o);

	*drive = o->drive == DRIVE_THREAD || jobs > 1 ? LSVD_DRIVE_THREAD : LSVD_DRIVE_INLINE;
	if (o->drive == DRIVE_INLINE && jobs > 1) {
		snprintf(why, LSVD_ERR_MAX,
			"drive=inline is for one job at a time, and %u share this pool; use "
			"drive=thread, or stonewall between them",
			jobs);
		return -EINVAL;
	}
	return 0;
}

/* A text that is equal for equal settings. */
static char *host_key(const struct options *o)
{
	const char *const parts[] = {o->pool, o->mirror, o->config, o->set, o->durability};
	char *key = NULL, *more;

	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int n = asprintf(&more, "%s%s\n", key ? key : "", parts[i] ? parts[i] : "");

		free(key);
		if (n < 0)
			return NULL;
		key = more;
	}
	return key;
}

static void host_put(struct host *h)
{
	struct host **p = &hosts;

	if (!h || --h->disks)
		return;
	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	lsvd_ctx_close(h->ctx);
	free(h->key);
	free(h);
}

static int host_open(const struct options *o, struct host *h, char *why)
{
	struct lsvd_config *cfg = NULL;
	int rc = choose_drive(o, &h->drive, why);

	if (rc == 0)
		rc = make_config(o, &cfg, why);
	if (rc == 0)
		rc = lsvd_ctx_open(cfg, h->drive, &h->ctx, why);
	lsvd_config_free(cfg);
	return rc;
}

static int host_get(const struct options *o, struct host **out, char *why)
{
	char *key = host_key(o);
	struct host *h = hosts;
	int rc;

	while (h && key && strcmp(h->key, key))
		h = h->next;
	if (h) {
		free(key);
		h->disks++;
		*out = h;
		return 0;
	}
	h = calloc(1, sizeof(*h));
	rc = h && key ? host_open(o, h, why) : -ENOMEM;
	if (rc < 0) {
		free(key);
		free(h);
		return rc;
	}
	h->key = key;
	h->disks = 1;
	h->next = hosts;
	hosts = *out = h;
	return 0;
}

static int open_image(struct disk *d, const struct options *o, char *why)
{
	unsigned flags = o->readonly || read_only ? LSVD_OPEN_READONLY : 0,
		 how = flags ? flags
			     : (o->no_journal ? LSVD_OPEN_NO_JOURNAL : 0u) |
				       (o->steal ? LSVD_OPEN_STEAL : 0u);
	struct lsvd_image_info info;
	int rc = 0;

	if (o->create && !flags) {
		rc = lsvd_image_create(d->host->ctx, d->url, o->create, why);
		if (rc == -EEXIST)
			rc = 0;
	}
	if (rc == 0)
		rc = lsvd_image_open(d->host->ctx, d->url, how, &d->img, why);
	/* A snapshot is read only, whatever the job does. */
	if (rc == -EROFS && !flags)
		rc = lsvd_image_open(d->host->ctx, d->url, LSVD_OPEN_READONLY, &d->img, why);
	if (rc < 0)
		return rc;
	if (lsvd_image_info(d->img, &info) == 0 && info.taken_from[0])
		log_info("lsvd: %s is taken over from %s\n", d->url, info.taken_from);
	if (o->create && lsvd_image_size(d->img) != o->create)
		log_err("lsvd: %s exists with %llu bytes; create=%llu is ignored\n", d->url,
			(unsigned long long)lsvd_image_size(d->img), o->create);
	return 0;
}

static int disk_close(struct disk *d, char *why)
{
	struct disk **p = &disks;
	int rc;

	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	rc = lsvd_image_close(d->img, why);
	host_put(d->host);
	free(d);
	return rc;
}

static int disk_get(const struct options *o, struct disk **out, char *why)
{
	struct host *h;
	struct disk *d;
	int rc = host_get(o, &h, why);

	if (rc < 0)
		return rc;
	for (d = disks; d; d = d->next)
		if (d->host == h && !strcmp(d->url, o->image)) {
			host_put(h); /* the disk holds it already */
			d->jobs++;
			*out = d;
			return 0;
		}
	d = calloc(1, sizeof(*d) + strlen(o->image) + 1);
	rc = d ? 0 : -ENOMEM;
	if (rc == 0) {
		d->host = h;
		strcpy(d->url, o->image);
		rc = open_image(d, o, why);
	}
	if (rc < 0) {
		host_put(h);
		free(d);
		return rc;
	}
	d->jobs = 1;
	d->owner = getpid();
	d->next = disks;
	disks = *out = d;
	return 0;
}

/* Jobs that were set up but never started have not been cleaned up: close after them. */
__attribute__((destructor)) static void close_rest(void)
{
	struct disk *d = disks, *next;

	for (; d; d = next) {
		next = d->next;
		if (!d->running && d->owner == getpid())
			(void)disk_close(d, NULL);
	}
}

/* ---- a job's life ---- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* in fio's macro */
static int refuse(struct thread_data *td, int rc, const char *why)
{
	log_err("lsvd: %s\n", why[0] ? why : strerror(-rc));
	td_verror(td, -rc, "lsvd");
	return 1;
}
#pragma GCC diagnostic pop

static int check_job(struct thread_data *td, const struct options *o, char *why)
{
	const char *bad = NULL;

	if (!o->image || !*o->image)
		bad = "which image? give image=STORE-URL/NAME, such as image=file:/srv/vols/vm1";
	else if (td->o.nr_files > 1)
		bad = "a job has one image: nrfiles must be 1";
	else if (td->o.io_submit_mode == IO_MODE_OFFLOAD)
		bad = "io_submit_mode=offload is not supported; use numjobs";
	else if (!td->o.create_serialize)
		bad = "create_serialize=0 is not supported";
	if (bad)
		snprintf(why, LSVD_ERR_MAX, "%s", bad);
	return bad ? -EINVAL : 0;
}

static void set_file(struct job *job, struct fio_file *f)
{
	f->real_file_size = lsvd_image_size(job->disk->img);
	f->filetype = FIO_TYPE_BLOCK; /* which fio allows trim on */
}

static int engine_setup(struct thread_data *td)
{
	struct options *o = td->eo;
	char why[LSVD_ERR_MAX] = "";
	struct job *job;
	int rc;

	/* With other headers `td` is not what we think it is: nothing but its misplaced io_ops
	 * tells. */
	if (td->io_ops != &ioengine) {
		log_err("lsvd: this engine was built with the headers of %s, and this is %s: their "
			"data "
			"structures differ.\nlsvd: rebuild the engine with the headers of exactly "
			"this "
			"version (make clean all)\n",
			LSVD_BUILT_FOR, fio_version_string);
		return 1;
	}
	rc = check_job(td, o, why);
	if (rc < 0)
		return refuse(td, rc, why);
	job = calloc(1, sizeof(*job));
	if (!job)
		return refuse(td, -ENOMEM, why);
	pthread_mutex_lock(&lock);
	rc = disk_get(o, &job->disk, why);
	if (rc == 0 && o->trace)
		rc = lsvd_image_trace(job->disk->img, o->trace, why);
	if (rc < 0 && job->disk && --job->disk->jobs == 0)
		(void)disk_close(job->disk, NULL);
	pthread_mutex_unlock(&lock);
	if (rc < 0) {
		free(job);
		return refuse(td, rc, why);
	}
	td->io_ops_data = job;
	td->o.use_thread = 1;
	if (!td->files_index && !td->o.read_iolog_file) {
		add_file(td, "lsvd", 0, 0);
		td->o.nr_files = td->o.nr_files ? td->o.nr_files : 1;
		td->o.open_files++;
	}
	for (unsigned i = 0; i < td->files_index; i++)
		set_file(job, td->files[i]);
	return 0;
}

static int engine_init(struct thread_data *td)
{
	struct job *job = td->io_ops_data;
	char why[LSVD_ERR_MAX] = "";
	unsigned places = 1;
	int rc = 0;

	if (!job)
		return refuse(td, -EINVAL, "the job was not set up");
	while (places < td->o.iodepth)
		places *= 2;
	job->mask = places - 1;
	job->ring = calloc(places, sizeof(job->ring[0]));
	job->reaped = calloc(places, sizeof(job->reaped[0]));
	if (!job->ring || !job->reaped)
		rc = -ENOMEM;
	if (rc == 0 && job->disk->host->drive == LSVD_DRIVE_THREAD)
		rc = lsvd_queue_new(job->disk->host->ctx, td->o.iodepth, &job->queue, why);
	if (rc < 0)
		return refuse(td, rc, why);
	pthread_mutex_lock(&lock);
	job->disk->running++;
	job->started = true;
	pthread_mutex_unlock(&lock);
	return 0;
}

static void write_stats(struct job *job, const char *path)
{
	char *text = lsvd_image_stats_json(job->disk->img);
	FILE *f = text ? fopen(path, "we") : NULL;

	if (!f || fprintf(f, "%s\n", text) < 0)
		log_err("lsvd: statistics to '%s': %s\n", path, strerror(errno));
	if (f && fclose(f))
		log_err("lsvd: statistics to '%s': %s\n", path, strerror(errno));
	free(text);
}

static void engine_cleanup(struct thread_data *td)
{
	struct options *o = td->eo;
	struct job *job = td->io_ops_data;
	char why[LSVD_ERR_MAX] = "";
	int rc = 0;

	if (!job)
		return;
	if (o->stats_json)
		write_stats(job, o->stats_json);
	if (job->queue)
		lsvd_queue_free(job->queue);
	pthread_mutex_lock(&lock);
	job->disk->running -= job->started;
	if (--job->disk->jobs == 0)
		rc = disk_close(job->disk, why);
	pthread_mutex_unlock(&lock);
	if (rc < 0 && td->error)
		log_err("lsvd: %s\n", why);
	else if (rc < 0)
		(void)refuse(td, rc, why);
	free(job->ring);
	free(job->reaped);
	free(job);
	td->io_ops_data = NULL;
}

static int engine_open_file(struct thread_data *td, struct fio_file *f)
{
	set_file(td->io_ops_data, f); /* files named by an I/O log appear after setup */
	return 0;
}

static int engine_close_file(struct thread_data *td, struct fio_file *f)
{
	(void)td, (void)f;
	return 0;
}

static int engine_get_file_size(struct thread_data *td, struct fio_file *f)
{
	set_file(td->io_ops_data, f);
	return 0;
}

/* ---- memory ---- */

/* Page-aligned, and touched now: a first touch during the run would be measured as I/O. */
static int engine_iomem_alloc(struct thread_data *td, size_t len)
{
	struct job *job = td->io_ops_data;

	job->mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (job->mem == MAP_FAILED) {
		job->mem = NULL;
		return refuse(td, -errno, "memory for I/O buffers");
	}
	job->mem_len = len;
	td->orig_buffer = job->mem;
	return 0;
}

static void engine_iomem_free(struct thread_data *td)
{
	struct job *job = td->io_ops_data;

	if (job && job->mem)
		munmap(job->mem, job->mem_len);
	td->orig_buffer = NULL;
}

static void complete(struct lsvd_io *io)
{
	struct request *r = (struct request *)io;
	struct job *job = r->job;
	unsigned tail = atomic_load_explicit(&job->tail, memory_order_relaxed);

	r->u->error = (unsigned)-io->status;
	if (io->op == LSVD_FLUSH)
		atomic_fetch_sub_explicit(&job->flushes, 1, memory_order_relaxed);
	else if (io->op != LSVD_READ)
		atomic_store_explicit(&job->unflushed, true, memory_order_relaxed);
	job->ring[tail & job->mask] = r->u;
	atomic_store_explicit(&job->tail, tail + 1, memory_order_release);
}

static int engine_io_u_init(struct thread_data *td, struct io_u *u)
{
	struct request *r = NULL;

	if (posix_memalign((void **)&r, 64, sizeof(*r)))
		return 1;
	memset(r, 0, sizeof(*r));
	r->u = u;
	r->job = td->io_ops_data;
	r->io.cb = complete;
	r->io.iov = &r->iov;
	r->io.iovcnt = 1;
	u->engine_data = r;
	return 0;
}

static void engine_io_u_free(struct thread_data *td, struct io_u *u)
{
	(void)td;
	free(u->engine_data);
	u->engine_data = NULL;
}

/* ---- I/O ---- */

/*
 * A flush with nothing to make durable is complete at once: nothing was acknowledged since the last
 * one was submitted, and none is on its way.
 *
 * So is a twin: up to 3.37 an asynchronous engine is asked for the same fsync again and again while
 * the first is in flight (`fsync=8 iodepth=8`).  It is not part of the workload; the first one
 * makes the promise.
 */
static bool flush_is_done(const struct thread_data *td, struct job *job)
{
	bool periodic = td->o.fsync_blocks || td->o.fdatasync_blocks;

	if (!atomic_load(&job->unflushed) && !atomic_load(&job->flushes))
		return true;
	return periodic && !job->written && td->runstate != TD_FSYNCING && !td->o.read_iolog_file &&
	       atomic_load(&job->flushes);
}

static void note_flush(struct job *job)
{
	atomic_store(&job->unflushed, false);
	atomic_fetch_add(&job->flushes, 1);
	job->written = false;
}

/* Up to 3.36 fio notes at its completion what it should note when it is issued; most twins, and
 * most fsyncs that are left out, come from that. */
static void note_issued(struct thread_data *td, bool sync)
{
#if FIO_IOOPS_VERSION <= 33
	td->last_was_sync = sync;
#else
	(void)td, (void)sync;
#endif
}

static int fill(const struct thread_data *td, struct request *r, const struct io_u *u)
{
	struct lsvd_io *io = &r->io;

	io->flags = 0;
	io->offset_bytes = u->offset;
	io->len_bytes = u->xfer_buflen;
	r->iov = (struct iovec){.iov_base = u->xfer_buf, .iov_len = u->xfer_buflen};
	switch (u->ddir) {
	case DDIR_READ:
		io->op = LSVD_READ;
		return 0;
	case DDIR_WRITE:
		io->op = LSVD_WRITE;
		io->flags = td->o.sync_io ? LSVD_FUA : 0;
		return 0;
	case DDIR_TRIM:
		io->op = LSVD_DISCARD;
		return 0;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
	case DDIR_SYNC_FILE_RANGE:
		io->op = LSVD_FLUSH;
		io->offset_bytes = io->len_bytes = 0;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static enum fio_q_status engine_queue(struct thread_data *td, struct io_u *u)
{
	struct request *r = u->engine_data;
	struct job *job = td->io_ops_data;
	bool was_unflushed;
	int rc;

	fio_ro_check(td, u);
	rc = fill(td, r, u);
	if (rc == 0 && r->io.op == LSVD_FLUSH && flush_is_done(td, job))
		return FIO_Q_COMPLETED;
	was_unflushed = atomic_load_explicit(&job->unflushed, memory_order_relaxed);
	if (rc == 0 && r->io.op == LSVD_FLUSH)
		note_flush(job);
	if (rc == 0)
		rc = job->queue ? lsvd_queue_submit(job->queue, job->disk->img, &r->io)
				: lsvd_submit(job->disk->img, &r->io);
	if (rc == 0) {
		job->written |= r->io.op == LSVD_WRITE || r->io.op == LSVD_DISCARD;
		note_issued(td, r->io.op == LSVD_FLUSH);
		return FIO_Q_QUEUED;
	}
	if (r->io.op == LSVD_FLUSH) {
		atomic_fetch_sub(&job->flushes, 1);
		if (was_unflushed)
			atomic_store(&job->unflushed, true);
	}
	if (rc == -EAGAIN)
		return FIO_Q_BUSY;
	u->error = (unsigned)-rc;
	return FIO_Q_COMPLETED;
}

static unsigned available(const struct job *job)
{
	return atomic_load_explicit(&job->tail, memory_order_acquire) - job->head;
}

/* Let the library work, for up to wait_ns; what completes goes on the ring.  0 or -errno. */
static int turn(struct job *job, unsigned missing, int64_t wait_ns)
{
	int n;

	if (!job->queue) {
		n = lsvd_poll(job->disk->host->ctx, wait_ns);
		return n < 0 ? n : 0;
	}
	n = lsvd_queue_reap(job->queue, job->reaped, missing, job->mask + 1, wait_ns);
	for (int i = 0; i < n; i++)
		complete(job->reaped[i]);
	return n < 0 ? n : 0;
}

static int engine_getevents(
	struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *t)
{
	struct job *job = td->io_ops_data;
	int64_t wait_ns = t ? t->tv_sec * 1000000000ll + t->tv_nsec : -1;
	unsigned n;
	int rc = 0;

	job->head += job->given;
	job->given = 0;
	n = available(job);
	if (n == 0 && min == 0) {
		rc = turn(job, 0, 0);
		n = available(job);
	}
	while (n < min && rc == 0) {
		rc = turn(job, min - n, wait_ns);
		n = available(job);
		if (t)
			break;
	}
	if (rc < 0)
		return rc;
	job->given = n < max ? n : max;
	return (int)job->given;
}

static struct io_u *engine_event(struct thread_data *td, int event)
{
	struct job *job = td->io_ops_data;

	return job->ring[(job->head + (unsigned)event) & job->mask];
}

struct ioengine_ops ioengine = {
	.name = "lsvd",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NODISKUTIL,
	.setup = engine_setup,
	.init = engine_init,
	.queue = engine_queue,
	.getevents = engine_getevents,
	.event = engine_event,
	.cleanup = engine_cleanup,
	.open_file = engine_open_file,
	.close_file = engine_close_file,
	.get_file_size = engine_get_file_size,
	.iomem_alloc = engine_iomem_alloc,
	.iomem_free = engine_iomem_free,
	.io_u_init = engine_io_u_init,
	.io_u_free = engine_io_u_free,
	.option_struct_size = sizeof(struct options),
	.options = options,
};
