/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_lock.c - the lock of an image: an object PREFIX/.lock/IMAGE that its holder keeps fresh.
 *
 *   absent --create--> held --renew--> held --release--> released --remove--> absent
 *                        |                                   |
 *                        +--- take over: dead, or stolen ----+ (when it stays)
 *
 * Every change is a compare-and-swap of the object, and no two of its states are the same bytes.  A
 * lease lasts s3.lease_ms and is renewed after a third of it.  A holder is dead when its lease has
 * run out, by the service's own clock (Date and Last-Modified of one answer), or at once when its
 * process ran on this machine and is not there any more.
 *
 * A released lock is removed by who released it: nobody else changes it meanwhile, so that the
 * removal, which cannot be made conditional everywhere, hits no one's new lock.  Should it hit one
 * all the same (a removal that was long under way), the holder finds its lock gone at the next
 * renewal, and creates it again.
 *
 * The lock keeps honest writers from getting into each other's way, and can name the one who is
 * there.  What keeps data safe is the superblock's compare-and-swap, which raises the epoch (I11).
 */
#include "store/s3_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum {
	TEXT_MAX = 256,
	BODY_MAX = 1024,
	NAME_MAX_ = 96,
	TRIES_MAX = 50,
	WAIT_NS = 100000000,
	GRACE_S = 2, /* both times are in whole seconds */
};

/* Which process, for another one of the same machine: not "which host", as hosts may share a name.
 */
struct process {
	char boot[40];
	uint64_t pid_namespace, pid, start;
};

struct s3_lock {
	struct s3_lock *next;
	char image[72], id[33], text[TEXT_MAX];
	char tag[STORE_TAG_MAX];
	uint64_t renewals,
		next_ns; /* next_ns: CLOCK_BOOTTIME, which goes on while a machine sleeps */
	bool lost;
};

/* What a lock object says. */
struct holder {
	char id[33], state[16], text[TEXT_MAX];
	uint64_t renewals, lease_ms;
	struct process process;
};

uint64_t s3_boottime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- processes ---- */

static size_t slurp(const char *path, char *out, size_t room)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(out, 1, room - 1, f) : 0;

	if (f)
		fclose(f);
	out[n] = 0;
	return n;
}

/* When a process began, in ticks since boot; 0: not to be seen. */
static uint64_t start_of(uint64_t pid)
{
	char path[64], text[1024];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
	slurp(path, text, sizeof(text));
	p = strrchr(text, ')'); /* its name may hold anything */
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static void this_process(struct process *p)
{
	char link[64];
	ssize_t n = readlink("/proc/self/ns/pid", link, sizeof(link) - 1);

	memset(p, 0, sizeof(*p));
	slurp("/proc/sys/kernel/random/boot_id", p->boot, sizeof(p->boot));
	p->boot[strcspn(p->boot, "\n")] = 0;
	link[n > 0 ? n : 0] = 0;
	p->pid_namespace = strncmp(link, "pid:[", 5) ? 0 : strtoull(link + 5, NULL, 10);
	p->pid = (uint64_t)getpid();
	p->start = start_of(p->pid);
}

static bool process_is_gone(const struct process *p)
{
	struct process us;
	uint64_t start;

	this_process(&us);
	if (!us.boot[0] || strcmp(us.boot, p->boot) || !us.pid_namespace ||
		us.pid_namespace != p->pid_namespace || !p->start || p->pid - 1 >= INT32_MAX)
		return false;
	if (kill((pid_t)p->pid, 0) < 0 && errno == ESRCH)
		return true;
	start = start_of(p->pid);
	return start && start != p->start; /* another one, by the same number */
}

/* ---- the object ---- */

static int print(
	const struct s3_desk *d, const struct s3_lock *k, const char *state, char out[BODY_MAX])
{
	struct process p;

	this_process(&p);
	return snprintf(out, BODY_MAX,
		"lsvd-lock 1\nid %s\nstate %s\nrenewals %" PRIu64
		"\nlease_ms %u\nprocess %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\nholder %s\n",
		k->id, state, k->renewals, d->s->lease_ms, p.boot[0] ? p.boot : "?",
		p.pid_namespace, p.pid, p.start, k->text);
}

static bool parse(const char *body, struct holder *h)
{
	int at = 0;

	memset(h, 0, sizeof(*h));
	return sscanf(body,
		       "lsvd-lock 1\nid %32[0-9a-f]\nstate %15[a-z]\nrenewals %" SCNu64
		       "\nlease_ms %" SCNu64 "\nprocess %39s %" SCNu64 " %" SCNu64 " %" SCNu64
		       "\nholder %n",
		       h->id, h->state, &h->renewals, &h->lease_ms, h->process.boot,
		       &h->process.pid_namespace, &h->process.pid, &h->process.start, &at) == 8 &&
	       at &&
	       snprintf(h->text, sizeof(h->text), "%.*s", (int)strcspn(body + at, "\n"),
		       body + at) >= 0;
}

static void object_name(const char *image, char out[NAME_MAX_])
{
	snprintf(out, NAME_MAX_, ".lock/%.64s", image);
}

static int write_lock(struct s3_desk *d, struct s3_lock *k, const char *state,
	char tag[STORE_TAG_MAX], struct err *e)
{
	char body[BODY_MAX], name[NAME_MAX_];
	struct iovec iov = {.iov_base = body};
	uint64_t before = s3_boottime_ns();
	int rc;

	object_name(k->image, name);
	iov.iov_len = (size_t)print(d, k, state, body);
	rc = s3_swap(d, name, tag, &iov, 1, false, e);
	if (rc < 0)
		return rc;
	memcpy(k->tag, tag, sizeof(k->tag));
	k->next_ns = before + d->s->lease_ms * 1000000ull / 3;
	return 0;
}

static int read_lock(struct s3_desk *d, const char *image, struct holder *h,
	char tag[STORE_TAG_MAX], int64_t *age_s, struct err *e)
{
	char body[BODY_MAX], name[NAME_MAX_];
	int64_t n;

	object_name(image, name);
	n = s3_look(d, name, tag, body, sizeof(body) - 1, e);
	if (n < 0)
		return (int)n;
	body[n] = 0;
	*age_s = d->call.date < 0 || d->call.modified < 0 ? 0 : d->call.date - d->call.modified;
	if (!parse(body, h))
		return err_set(e, -EUCLEAN,
			"the object '%s%s' is not a lock; remove it when nobody uses the image",
			d->s->place.prefix, name);
	return 0;
}

/* ---- taking ---- */

/* One attempt.  0: it is ours; 1: look again, it is changing; or an error. */
static int try_lock(
	struct s3_desk *d, struct s3_lock *k, bool steal, char victim[33], struct err *e)
{
	char tag[STORE_TAG_MAX] = "";
	struct holder h;
	int64_t age_s = 0, left_s;
	int rc = read_lock(d, k->image, &h, tag, &age_s, e);
	bool dead;

	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == -ENOENT) {
		tag[0] = 0;
	} else {
		left_s = (int64_t)(h.lease_ms + 999) / 1000 + GRACE_S - age_s;
		dead = left_s <= 0 || process_is_gone(&h.process);
		if (!strcmp(h.state, "released") && !dead)
			return err_set(e, 1, "its lock is being given back by %s", h.text);
		if (steal && !victim[0])
			memcpy(victim, h.id, sizeof(h.id));
		if (!dead && !(steal && !strcmp(victim, h.id)))
			return err_set(e, -EBUSY,
				"%s: image is in use by %s; should that be dead, its lease ends in "
				"%" PRId64 " s",
				d->s->s.url, h.text, left_s);
	}
	rc = write_lock(d, k, "held", tag, e);
	return rc == -EEXIST || rc == -ESTALE ? 1 : rc;
}

static struct s3_lock **find(struct s3_desk *d, const char *image)
{
	struct s3_lock **p = &d->locks;

	while (*p && strcmp((*p)->image, image))
		p = &(*p)->next;
	return p;
}

static void forget(struct s3_lock **p)
{
	struct s3_lock *k = *p;

	*p = k->next;
	free(k);
}

static struct s3_lock *new_lock(const struct store_req *r)
{
	struct s3_lock *k = calloc(1, sizeof(*k));
	uint8_t id[16];
	size_t at = 0;

	if (!k)
		return NULL;
	while (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		;
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(k->id + 2 * i, 3, "%02x", id[i]);
	snprintf(k->image, sizeof(k->image), "%s", r->name);
	for (int i = 0; i < r->iovcnt; i++) {
		size_t n = r->iov[i].iov_len, room = sizeof(k->text) - 1 - at;

		n = n < room ? n : room;
		memcpy(k->text + at, r->iov[i].iov_base, n);
		at += n;
	}
	for (char *c = k->text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	return k;
}

/* Once per handle: a service that ignored conditions would let two in. */
static int check(struct s3_desk *d, const struct s3_lock *k, struct err *e)
{
	char name[NAME_MAX_];
	int rc;

	if (d->checked)
		return 0;
	object_name(k->image, name);
	rc = s3_check_conditions(d, name, k->tag, e);
	d->checked = rc == 0;
	if (rc == -EOPNOTSUPP && s3_remove(d, name, NULL) < 0)
		return rc; /* it stays, and says nothing */
	return rc;
}

static int ask(struct s3_desk *d, const struct store_req *r)
{
	const struct s3_lock *ours = *find(d, r->name);
	char tag[STORE_TAG_MAX] = "";
	struct holder h;
	int64_t age_s;
	int rc = read_lock(d, r->name, &h, tag, &age_s, r->err);

	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (strcmp(h.state, "held") || (ours && !strcmp(ours->id, h.id)))
		return 0;
	return err_set(r->err, -EBUSY, "%s", h.text);
}

int s3_lock(struct s3_desk *d, const struct store_req *r)
{
	struct s3_lock **old = find(d, r->name), *k;
	char victim[33] = "";
	int rc = 1;

	if (r->ask)
		return ask(d, r);
	k = new_lock(r);
	if (!k)
		return -ENOMEM;
	for (unsigned tries = 0; rc == 1 && tries < TRIES_MAX && !d->once; tries++) {
		if (tries)
			s3_clerk_sleep(d, WAIT_NS);
		rc = try_lock(d, k, r->steal, victim, r->err);
	}
	if (rc) {
		free(k);
		return rc == 1 ? -EBUSY : rc;
	}
	if (*old)
		forget(old); /* lost, or stolen from ourselves */
	k->next = d->locks;
	d->locks = k;
	rc = check(d, k, r->err);
	if (rc < 0)
		(void)s3_unlock(d, r->name);
	return rc;
}

/* ---- giving back ---- */

int s3_unlock(struct s3_desk *d, const char *image)
{
	struct s3_lock **p = find(d, image), *k = *p;
	char name[NAME_MAX_];

	if (!k)
		return 0;
	k->renewals++;
	object_name(image, name);
	if (!k->lost && write_lock(d, k, "released", k->tag, NULL) == 0 &&
		s3_remove(d, name, NULL) < 0)
		k->lost = true; /* it stays behind, released, until its lease has run out */
	forget(p);
	return 0;
}

void s3_unlock_all(struct s3_desk *d)
{
	while (d->locks)
		(void)s3_unlock(d, d->locks->image);
}

/* ---- keeping ---- */

static void renew(struct s3_desk *d, struct s3_lock *k)
{
	char name[NAME_MAX_], tag[STORE_TAG_MAX];
	bool was = d->once;
	int rc;

	d->once = true; /* there is a next time, and somebody may be waiting */
	k->renewals++;
	object_name(k->image, name);
	rc = write_lock(d, k, "held", k->tag, NULL);
	if (rc == -ESTALE && s3_look(d, name, tag, NULL, 0, NULL) == -ENOENT) {
		tag[0] = 0; /* removed, by a late request of an earlier holder */
		rc = write_lock(d, k, "held", tag, NULL);
	}
	d->once = was || d->once_from_now;
	if (rc == -ESTALE || rc == -EEXIST)
		k->lost = true;
	else if (rc < 0)
		k->next_ns = s3_boottime_ns() + d->s->lease_ms * 1000000ull / 12;
}

uint64_t s3_renew(struct s3_desk *d)
{
	uint64_t next = UINT64_MAX;

	for (struct s3_lock *k = d->locks; k; k = k->next) {
		if (!k->lost && k->next_ns <= s3_boottime_ns())
			renew(d, k);
		if (!k->lost && k->next_ns < next)
			next = k->next_ns;
	}
	return next;
}

int s3_still_ours(struct s3_desk *d, const char *name, struct err *e)
{
	char image[72], object[NAME_MAX_], tag[STORE_TAG_MAX];
	struct s3_lock *k;
	int64_t rc;

	snprintf(image, sizeof(image), "%.*s", (int)strcspn(name, "/"), name);
	k = *find(d, image);
	if (!k)
		return 0;
	object_name(image, object);
	rc = k->lost ? 0 : s3_look(d, object, tag, NULL, 0, e);
	if (rc < 0 && rc != -ENOENT)
		return (int)rc;
	if (!k->lost && (rc < 0 || strcmp(tag, k->tag)))
		renew(d, k); /* which finds out */
	return k->lost ? err_set(e, -ESTALE, "the lock of the image was taken by another writer")
		       : 0;
}
