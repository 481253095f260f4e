/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * machine.c - what machine this is, as far as figures depend on it: no host name, no addresses.
 *
 * Every fact is best effort; what the kernel does not tell becomes "unknown".
 */
#include "results/schema.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

static void trim(char *s)
{
	size_t n = strlen(s), skip = 0;

	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = 0;
	while (isspace((unsigned char)s[skip]))
		skip++;
	memmove(s, s + skip, n - skip + 1);
}

static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		trim(buf);
	return ok && buf[0];
}

static void probe_cpu(char *buf, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		trim(colon + 1);
		snprintf(buf, size, "%s", colon + 1);
		break;
	}
	if (f)
		fclose(f);
}

/* A partition has no model of its own: its parent directory in /sys is the disk. */
static void probe_disk(dev_t dev, char *buf, size_t size)
{
	static const char *const places[] = {
		"device/model", "../device/model", "dm/name", "loop/backing_file"};
	char path[128], link[256];
	ssize_t n;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev), minor(dev),
			places[i]);
		if (read_line(path, buf, size))
			return;
	}
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return;
	link[n] = 0;
	snprintf(buf, size, "%.100s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
}

/* mountinfo: "36 35 98:0 /root /mnt opts - ext4 /dev/x opts" */
static void probe_filesystem(dev_t dev, char *buf, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	unsigned maj, min;
	char line[4096];

	while (f && fgets(line, sizeof(line), f)) {
		char *sep = strstr(line, " - ");

		if (!sep || sscanf(line, "%*d %*d %u:%u", &maj, &min) != 2 ||
			makedev(maj, min) != dev)
			continue;
		snprintf(buf, size, "%.*s", (int)strcspn(sep + 3, " "), sep + 3);
		break;
	}
	if (f)
		fclose(f);
}

void results_probe_machine(struct results *r, const char *path)
{
	struct results_machine *m = &r->machine;
	struct utsname un;
	struct stat st;

	*m = (struct results_machine){.cpu = "unknown",
		.kernel = "unknown",
		.disk = "unknown",
		.filesystem = "unknown",
		.cores = sysconf(_SC_NPROCESSORS_ONLN),
		.memory_bytes = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)};
	probe_cpu(m->cpu, sizeof(m->cpu));
	if (!uname(&un))
		snprintf(m->kernel, sizeof(m->kernel), "%s", un.release);
	if (stat(path, &st))
		return;
	probe_disk(st.st_dev, m->disk, sizeof(m->disk));
	probe_filesystem(st.st_dev, m->filesystem, sizeof(m->filesystem));
}
