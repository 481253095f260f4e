/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_damage.h"

#include "sys/container.h"
#include "test/sim_vol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 512 };

struct names {
	struct store_req req;
	unsigned n;
	char name[NAMES_MAX][STORE_NAME_MAX];
	uint64_t size[NAMES_MAX];
};

static struct names found;

static int note(struct store_req *r, const char *name, uint64_t size)
{
	struct names *f = container_of(r, struct names, req);

	if (f->n == NAMES_MAX)
		return 0;
	snprintf(f->name[f->n], STORE_NAME_MAX, "%s", name);
	f->size[f->n++] = size;
	return 0;
}

static void must(struct world *w, struct store_req *r)
{
	if (store_wait(w->raw, r) < 0)
		world_fail(w, "damage: '%s': operation %d failed", r->name, (int)r->op);
}

static void replace(struct world *w, const char *name, void *data, uint64_t len)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct store_req del = {.op = STORE_DELETE, .name = name};
	struct store_req put = {
		.op = STORE_PUT, .name = name, .iov = &iov, .iovcnt = 1, .len_bytes = len};

	must(w, &del);
	must(w, &put);
}

/* Read-only, for a writer's opening may change what is found.  An open must say what is wrong;
 * reads of an image that opens all the same may fail, and must not lie. */
static void look(struct vol *v, const char *name)
{
	struct world *w = v->w;
	struct lsvd_image *img;
	char why[LSVD_ERR_MAX] = "";
	int rc = -EIO;

	for (int i = 0; i < 10 && vol_transient(rc); i++)
		rc = world_open_image(v, LSVD_OPEN_READONLY, &img, why);
	world_log(w, "%s with '%s' damaged: %d %s", v->name, name, rc, why);
	if (rc < 0 && !why[0])
		world_fail(
			w, "%s: '%s' is damaged, and the error %d says nothing", v->name, name, rc);
	if (rc < 0)
		return;
	if (workload_look(v, img, true) &&
		!oracle_matches(&v->o, (uint32_t)lsvd_image_size(img) / 512, v->o.stored, v->o.n))
		world_fail(w, "%s, with '%s' damaged: %s", v->name, name, v->o.why);
	w->blocking = true;
	if (lsvd_image_close(img, why) < 0)
		world_fail(w, "close %s: %s", v->name, why);
	w->blocking = false;
}

static void break_some(struct world *w, uint8_t *data, uint64_t *len)
{
	uint64_t at = world_below(w, *len), where = world_below(w, 100);

	/* Headers, and what ends an object, are small: hit them as often as the data. */
	if (where < 35 && at >= 512)
		at %= 512;
	else if (where < 70 && *len > 192)
		at = *len - 1 - at % 192;
	if (world_chance(w, 75))
		data[at] ^= (uint8_t)(1u << world_below(w, 8));
	else
		*len = at;
}

static void try(struct vol *v)
{
	struct world *w = v->w;
	char prefix[16];
	uint8_t *data, *copy;
	uint64_t len;
	unsigned pick;

	world_land_strays(w);
	w->blocking = true;
	found.n = 0;
	snprintf(prefix, sizeof(prefix), "%s/", v->name);
	found.req = (struct store_req){.op = STORE_LIST, .name = prefix, .item = note};
	must(w, &found.req);
	pick = (unsigned)world_below(w, found.n);
	len = found.size[pick];
	data = malloc(len + 1);
	copy = malloc(len + 1);
	if (data && copy && len) {
		struct iovec iov = {.iov_base = data, .iov_len = len};
		struct store_req get = {.op = STORE_GET,
			.name = found.name[pick],
			.iov = &iov,
			.iovcnt = 1,
			.len_bytes = len};

		must(w, &get);
		memcpy(copy, data, len);
		break_some(w, data, &len);
		replace(w, found.name[pick], data, len);
		w->blocking = false;
		look(v, found.name[pick]);
		w->blocking = true;
		replace(w, found.name[pick], copy, found.size[pick]);
	}
	free(data);
	free(copy);
	w->blocking = false;
}

/* No crash meanwhile: the damage would stay. */
void damage_try(struct vol *v)
{
	struct world *w = v->w;
	uint64_t left = loop_sim_stops_at(w->loop) - loop_sim_events(w->loop);
	bool armed = w->armed;

	if (v->exists != YES || v->img)
		return;
	world_arm(w, 0, w->armed_process);
	try(v);
	if (armed)
		world_arm(w, left, w->armed_process);
}
