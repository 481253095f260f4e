/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/memory.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char cgroups[] = "/sys/fs/cgroup";

static _Atomic uint64_t taken;

/* The number in `path`; UINT64_MAX when it holds none ("max"), or is not there. */
static uint64_t limit_in(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long long n = 0;
	bool is = f && fscanf(f, "%llu", &n) == 1;

	if (f)
		fclose(f);
	return is ? n : UINT64_MAX;
}

/* The control group that this process is in, "/a/b"; or "". */
static void own_group(char *group, size_t size)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512];

	group[0] = 0;
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "0::/", 4)) {
			line[strcspn(line, "\n")] = 0;
			snprintf(group, size, "%s", line + 3);
		}
	if (f)
		fclose(f);
}

uint64_t memory_bytes(void)
{
	uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	char group[512], path[sizeof(group) + 64], *slash;

	/* A group may use no more than any above it. */
	for (own_group(group, sizeof(group)); (slash = strrchr(group, '/')) != NULL; *slash = 0) {
		uint64_t limit;

		snprintf(path, sizeof(path), "%s%s/memory.max", cgroups, group);
		limit = limit_in(path);
		if (limit < least)
			least = limit;
	}
	return least;
}

bool memory_take(uint64_t bytes, uint64_t limit_bytes)
{
	uint64_t have = atomic_load(&taken);

	do {
		if (bytes > limit_bytes || have > limit_bytes - bytes)
			return false;
	} while (!atomic_compare_exchange_weak(&taken, &have, have + bytes));
	return true;
}

void memory_give(uint64_t bytes)
{
	uint64_t had = atomic_fetch_sub(&taken, bytes);

	assert(had >= bytes);
	(void)had;
}

uint64_t memory_taken(void)
{
	return atomic_load(&taken);
}
