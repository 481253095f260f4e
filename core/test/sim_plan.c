/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/sim_plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[FEATURES] = {[F_STORE] = "store",
	[F_AFTER] = "after",
	[F_SHORT] = "short",
	[F_STALE] = "stale",
	[F_LATE] = "late",
	[F_STRAY] = "stray",
	[F_STALL] = "stall",
	[F_DISK] = "disk",
	[F_ROT] = "rot",
	[F_LOSE] = "lose",
	[F_AWAY] = "away",
	[F_DIE] = "die",
	[F_MIRROR] = "mirror",
	[F_MANY] = "many",
	[F_BASE] = "base",
	[F_ADMIN] = "admin",
	[F_RESIZE] = "resize",
	[F_GC] = "gc",
	[F_DRAIN] = "drain",
	[F_ZERO] = "zero",
	[F_CACHE] = "cache",
	[F_AHEAD] = "ahead",
	[F_DAMAGE] = "damage",
	[F_ZOMBIE] = "zombie",
	[F_SNAP] = "snap",
	[F_CLONE] = "clone",
	[F_LEGS] = "legs",
	[F_ROLLBACK] = "rollback"};

bool plan_skips(const struct plan *p, unsigned life, unsigned step)
{
	for (unsigned i = 0; i < p->nskip; i++)
		if (p->skip[i].life == life && step >= p->skip[i].from && step <= p->skip[i].to)
			return true;
	return false;
}

const char *plan_feature_name(enum feature f)
{
	return names[f];
}

/* ---- text ---- */

static int parse_features(uint32_t *bits, char *list)
{
	char *rest = NULL;

	for (char *s = strtok_r(list, ",", &rest); s; s = strtok_r(NULL, ",", &rest)) {
		unsigned f = 0;

		while (f < FEATURES && strcmp(s, names[f]))
			f++;
		if (f == FEATURES)
			return -EINVAL;
		*bits |= 1u << f;
	}
	return 0;
}

static int parse_word(struct plan *p, char *word)
{
	struct skip k;
	uint64_t at;
	unsigned life;

	if (!strncmp(word, "no=", 3))
		return parse_features(&p->without, word + 3);
	if (!strncmp(word, "yes=", 4))
		return parse_features(&p->always, word + 4);
	if (sscanf(word, "cut=%u:%" SCNu64, &life, &at) == 2 && life < PLAN_LIVES) {
		p->cuts |= (uint16_t)(1u << life);
		p->cut[life] = at;
		return 0;
	}
	if (sscanf(word, "skip=%u:%u-%u", &k.life, &k.from, &k.to) == 3 && p->nskip < PLAN_SKIPS) {
		p->skip[p->nskip++] = k;
		return 0;
	}
	return -EINVAL;
}

int plan_parse(struct plan *p, const char *text)
{
	char *copy = strdup(text), *rest = NULL;
	int rc = copy ? 0 : -ENOMEM;

	for (char *s = copy ? strtok_r(copy, " ", &rest) : NULL; rc == 0 && s;
		s = strtok_r(NULL, " ", &rest))
		rc = parse_word(p, s);
	free(copy);
	return rc;
}

__attribute__((format(printf, 3, 4))) static void add(char *out, size_t len, const char *fmt, ...)
{
	size_t n = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, len - n, fmt, ap);
	va_end(ap);
}

static void add_features(char *out, size_t len, const char *what, uint32_t bits)
{
	for (unsigned f = 0; f < FEATURES; f++)
		if (bits >> f & 1) {
			add(out, len, "%s%s", what, names[f]);
			what = ",";
		}
}

void plan_text(const struct plan *p, char *out, size_t len)
{
	out[0] = 0;
	add_features(out, len, "no=", p->without);
	add_features(out, len, *out ? " yes=" : "yes=", p->always);
	for (unsigned i = 0; i < PLAN_LIVES; i++)
		if (p->cuts >> i & 1)
			add(out, len, "%scut=%u:%" PRIu64, *out ? " " : "", i, p->cut[i]);
	for (unsigned i = 0; i < p->nskip; i++)
		add(out, len, "%sskip=%u:%u-%u", *out ? " " : "", p->skip[i].life, p->skip[i].from,
			p->skip[i].to);
}
