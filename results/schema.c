/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * schema.c - building a set of results, and its way to and from a file.
 *
 * A write encodes, decodes what it encoded with the reader's checks, and only then touches the
 * disk: a temporary file in the same directory, fsync, and a rename that never replaces a file.
 */
#include "results/schema.h"
#include "results/json.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct results *results_new(void)
{
	struct results *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->time_s = time(NULL);
	r->versions = json_object();
	if (!r->versions) {
		free(r);
		return NULL;
	}
	return r;
}

void results_free(struct results *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->nfigures; i++) {
		free(r->figures[i].samples);
		json_decref(r->figures[i].params);
	}
	free(r->figures);
	results_free_curves(r);
	json_decref(r->versions);
	free(r);
}

int results_set_version(struct results *r, const char *what, const char *version, struct err *e)
{
	if (!what[0] || !version[0] || json_object_set_new(r->versions, what, json_string(version)))
		return err_set(e, -EINVAL, "version of '%s': empty or not UTF-8", what);
	return 0;
}

/* The promises of SCHEMA.md; the first pattern that matches a name decides. */
static const struct known {
	const char *pattern, *unit;
	enum results_direction direction;
} knowns[] = {
	{"fio.*.lsvd.iops", "iops", RESULTS_HIGHER},
	{"fio.*.lsvd.bw_mib_s", "MiB/s", RESULTS_HIGHER},
	{"fio.*.lsvd.p50_us", "us", RESULTS_LOWER},
	{"fio.*.lsvd.p99_us", "us", RESULTS_LOWER},
	{"fio.*.lsvd.p999_us", "us", RESULTS_LOWER},
	{"fio.*.raw.iops", "iops", RESULTS_NONE},
	{"fio.*.raw.bw_mib_s", "MiB/s", RESULTS_NONE},
	{"fio.*.raw.p50_us", "us", RESULTS_NONE},
	{"fio.*.raw.p99_us", "us", RESULTS_NONE},
	{"fio.*.raw.p999_us", "us", RESULTS_NONE},
	{"fio.*.p99_ratio_raw", "ratio", RESULTS_LOWER},
	{"fio.*.p999_ratio_raw", "ratio", RESULTS_LOWER},
	{"fio.*.ratio_raw", "ratio", RESULTS_HIGHER},
	{"mem.*.iops", "iops", RESULTS_HIGHER},
	{"mem.*.ratio_inline", "ratio", RESULTS_HIGHER},
	{"mem.*.ratio_one", "ratio", RESULTS_HIGHER},
	{"mem.*.cpu_ns", "ns", RESULTS_LOWER},
	{"mem.*.syscalls_per_io", "count", RESULTS_LOWER},
	{"mem.*.allocs_per_io", "count", RESULTS_LOWER},
	{"open.*.s", "s", RESULTS_LOWER},
	{"open.*.replay_mib_s", "MiB/s", RESULTS_HIGHER},
	{"images.*.memory_mib*", "MiB", RESULTS_LOWER},
	{"images.*_s", "s", RESULTS_LOWER},
	{"legs.*.iops", "iops", RESULTS_HIGHER},
	{"legs.*.p50_us", "us", RESULTS_LOWER},
	{"legs.*.p99_us", "us", RESULTS_LOWER},
	{"ceph.*.lsvd.iops", "iops", RESULTS_HIGHER},
	{"ceph.*.lsvd.bw_mib_s", "MiB/s", RESULTS_HIGHER},
	{"ceph.*.lsvd.p*_us", "us", RESULTS_LOWER},
	{"ceph.*.rbd.iops", "iops", RESULTS_NONE},
	{"ceph.*.rbd.bw_mib_s", "MiB/s", RESULTS_NONE},
	{"ceph.*.rbd.p*_us", "us", RESULTS_NONE},
	{"ceph.osd_cpu_us_per_write.lsvd", "us", RESULTS_LOWER},
	{"ceph.osd_cpu_us_per_write.rbd", "us", RESULTS_NONE},
	{"ceph.osd_cpu_ratio_rbd", "ratio", RESULTS_LOWER},
	{"ceph.*.ratio_rbd", "ratio", RESULTS_HIGHER},
	{"s3.*.lsvd.iops", "iops", RESULTS_HIGHER},
	{"s3.*.lsvd.bw_mib_s", "MiB/s", RESULTS_HIGHER},
	{"s3.*.lsvd.p*_us", "us", RESULTS_LOWER},
	{"s3.osd_cpu_us_per_write.lsvd", "us", RESULTS_LOWER},
	{"s3.osd_cpu_ratio_rados", "ratio", RESULTS_LOWER},
	{"s3.*.ratio_rados", "ratio", RESULTS_HIGHER},
	{"*.osd_ops_per_write", "count", RESULTS_LOWER},
	{"*.drain.ratio_store_bench", "ratio", RESULTS_HIGHER},
	{"boot.*.gets", "count", RESULTS_LOWER},
	{"boot.*.bytes", "bytes", RESULTS_LOWER},
	{"boot.*.outstanding_ms", "ms", RESULTS_LOWER},
	{"boot.*.wasted_bytes", "bytes", RESULTS_LOWER},
	{"boot.*.gets_ratio_original", "ratio", RESULTS_LOWER},
	{"boot.*.outstanding_ratio_original", "ratio", RESULTS_LOWER},
	{"vmboot.*.gets", "count", RESULTS_LOWER},
	{"vmboot.*.bytes", "bytes", RESULTS_LOWER},
	{"vmboot.*.outstanding_ms", "ms", RESULTS_LOWER},
	{"vmboot.*.marker_s", "s", RESULTS_LOWER},
	{"vmboot.*.read_amplification", "ratio", RESULTS_LOWER},
	{"vmboot.*.wasted_bytes", "bytes", RESULTS_LOWER},
	{"vmboot.*_ratio_*", "ratio", RESULTS_LOWER},
	{"vmboot.srv.fetched_per_read", "ratio", RESULTS_LOWER},
	{"trace.cpu_overhead_percent", "percent", RESULTS_LOWER},
	{"pressure.*.max_ms", "ms", RESULTS_LOWER},
	{"pressure.*.p*_us", "us", RESULTS_LOWER},
	{"pressure.*.late_ratio_store", "ratio", RESULTS_HIGHER},
	{"gc.foreground.iops_ratio", "ratio", RESULTS_HIGHER},
	{"gc.foreground.p99_ratio", "ratio", RESULTS_LOWER},
	{"import.ratio_cp", "ratio", RESULTS_HIGHER},
	{"export.ratio_cp", "ratio", RESULTS_HIGHER},
	{"reorg.ratio_cp", "ratio", RESULTS_HIGHER},
};

bool results_known(const char *name, const char **unit, enum results_direction *direction)
{
	for (size_t i = 0; i < sizeof(knowns) / sizeof(knowns[0]); i++) {
		if (fnmatch(knowns[i].pattern, name, 0))
			continue;
		*unit = knowns[i].unit;
		*direction = knowns[i].direction;
		return true;
	}
	return false;
}

static int check_new(const struct results *r, const char *name, const char *unit,
	const double *samples, size_t n, const json_t *params, struct err *e)
{
	if (!results_name_ok(name))
		return err_set(e, -EINVAL,
			"figure '%s': the name is not of the form [a-z0-9_]+(.[a-z0-9_]+)*", name);
	if (results_find(r, name))
		return err_set(e, -EINVAL, "figure '%s' was added already", name);
	if (!results_unit_ok(unit))
		return err_set(e, -EINVAL,
			"figure '%s': unit '%s' is empty, too long or has blanks", name, unit);
	if (!n || n > RESULTS_SAMPLES_MAX)
		return err_set(e, -EINVAL, "figure '%s': %zu samples", name, n);
	for (size_t i = 0; i < n; i++)
		if (!isfinite(samples[i]))
			return err_set(e, -EINVAL, "figure '%s': sample %zu is not a finite number",
				name, i);
	if (params && !json_is_object(params))
		return err_set(e, -EINVAL, "figure '%s': params must be a JSON object", name);
	return 0;
}

static int grow(struct results *r)
{
	size_t room = r->room ? 2 * r->room : 64;
	struct results_figure *f;

	if (r->nfigures < r->room)
		return 0;
	f = realloc(r->figures, room * sizeof(*f));
	if (!f)
		return -ENOMEM;
	r->figures = f;
	r->room = room;
	return 0;
}

static int append(struct results *r, const char *name, const char *unit,
	enum results_direction direction, const double *samples, size_t n, json_t *params)
{
	double *copy = calloc(n, sizeof(*copy));
	struct results_figure *f;

	if (!copy || grow(r)) {
		free(copy);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		copy[i] = results_round(samples[i]);
	f = &r->figures[r->nfigures];
	*f = (struct results_figure){.direction = direction, .samples = copy, .n = n};
	if (stat_summarize(copy, n, &f->sum)) {
		free(copy);
		return -ENOMEM;
	}
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->unit, sizeof(f->unit), "%s", unit);
	f->params = json_incref(params);
	r->nfigures++;
	return 0;
}

int results_add(struct results *r, const char *name, const char *unit,
	enum results_direction direction, const double *samples, size_t n, json_t *params,
	struct err *e)
{
	int rc = check_new(r, name, unit, samples, n, params, e);

	if (!params)
		params = json_object();
	if (!rc && (!params || append(r, name, unit, direction, samples, n, params)))
		rc = err_set(e, -ENOMEM, "figure '%s': no memory", name);
	json_decref(params);
	return rc;
}

int results_add_known(struct results *r, const char *name, const double *samples, size_t n,
	json_t *params, struct err *e)
{
	enum results_direction direction;
	const char *unit;

	if (!results_known(name, &unit, &direction)) {
		json_decref(params);
		return err_set(
			e, -EINVAL, "figure '%s' is not a name that SCHEMA.md promises", name);
	}
	if (!params)
		params = json_object();
	if (!strncmp(name, "boot.", 5) && !json_object_get(params, "exact"))
		json_object_set_new(params, "exact", json_true());
	return results_add(r, name, unit, direction, samples, n, params, e);
}

const struct results_figure *results_find(const struct results *r, const char *name)
{
	for (size_t i = 0; i < r->nfigures; i++)
		if (!strcmp(r->figures[i].name, name))
			return &r->figures[i];
	return NULL;
}

const struct results_figure *results_vfind(const struct results *r, const char *fmt, va_list ap)
{
	char name[RESULTS_NAME_MAX + 1];

	vsnprintf(name, sizeof(name), fmt, ap);
	return results_find(r, name);
}

bool results_exact(const struct results_figure *f)
{
	return json_is_true(json_object_get(f->params, "exact"));
}

const char *results_number(double v)
{
	static char ring[8][48];
	static unsigned next;
	char *out = ring[next++ % 8], *end;

	if (v == floor(v) && fabs(v) < 9e15) {
		snprintf(out, sizeof(ring[0]), "%.0f", v + 0.0);
		return out;
	}
	if (fabs(v) >= 1e15 || fabs(v) < 1e-9) {
		snprintf(out, sizeof(ring[0]), "%.12g", v);
		return out;
	}
	snprintf(out, sizeof(ring[0]), "%.*f", 11 - (int)floor(log10(fabs(v))), v);
	for (end = out + strlen(out); strchr(out, '.') && end[-1] == '0';)
		*--end = 0;
	if (end[-1] == '.')
		end[-1] = 0;
	return out;
}

void results_file_name(const struct results *r, char *name, size_t size)
{
	time_t t = (time_t)r->time_s;
	char when[32];
	struct tm tm;

	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", gmtime_r(&t, &tm));
	snprintf(name, size, "%s-%.7s%s.json", when, r->commit, r->dirty ? "-dirty" : "");
}

int results_read(const char *file, struct results **out, struct err *e)
{
	json_error_t je;
	FILE *f = fopen(file, "re");
	json_t *root;
	int rc;

	if (!f)
		return err_set(e, -errno, "%s: %s", file, strerror(errno));
	root = json_loadf(f, JSON_REJECT_DUPLICATES, &je);
	fclose(f);
	if (!root)
		return err_set(e, -EUCLEAN, "%s: line %d: %s", file, je.line, je.text);
	rc = results_decode(root, file, out, e);
	json_decref(root);
	return rc;
}

int results_make_dirs(const char *dir)
{
	char path[4096];

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0777) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0777) && errno != EEXIST ? -errno : 0;
}

/* Whole or not at all: write beside, fsync, rename without replacing, fsync the directory. */
static int write_file(int dirfd, const char *name, const char *text)
{
	size_t len = strlen(text);
	char tmp[128];
	int fd, rc = 0;

	snprintf(tmp, sizeof(tmp), ".%s.%d", name, (int)getpid());
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	for (ssize_t n; len && !rc; text += n, len -= (size_t)n)
		if ((n = write(fd, text, len)) < 0)
			rc = -errno, n = 0;
	if (!rc && fsync(fd))
		rc = -errno;
	if (close(fd) && !rc)
		rc = -errno;
	if (!rc && renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE))
		rc = -errno;
	if (rc)
		unlinkat(dirfd, tmp, 0);
	else
		rc = fsync(dirfd) ? -errno : 0;
	return rc;
}

static void dump_list(FILE *f, const char *key, const json_t *list, size_t flags)
{
	json_t *v;
	size_t i;

	fprintf(f, ",\n\"%s\": [", key);
	json_array_foreach(list, i, v)
	{
		fputs(i ? ",\n" : "\n", f);
		json_dumpf(v, f, flags);
	}
	fputs("\n]", f);
}

/* One line per key, per figure and per curve: small, and a diff of two files reads well. */
static char *dump(json_t *root)
{
	const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12);
	const char *key, *sep = "{\n";
	char *text = NULL;
	size_t size;
	json_t *v;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	json_object_foreach(root, key, v)
	{
		if (json_is_array(v))
			continue;
		fprintf(f, "%s\"%s\": ", sep, key);
		json_dumpf(v, f, flags);
		sep = ",\n";
	}
	json_object_foreach(root, key, v) if (json_is_array(v)) dump_list(f, key, v, flags);
	fputs("}\n", f);
	if (ferror(f) | fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static char *encode_checked(const struct results *r, const char *name, int *rc, struct err *e)
{
	json_t *root = results_encode(r);
	struct results *again;
	char *text = NULL;

	if (!root) {
		*rc = err_set(e, -EINVAL, "%s: a string is not UTF-8, or no memory", name);
		return NULL;
	}
	*rc = results_decode(root, name, &again, e);
	if (!*rc) {
		results_free(again);
		text = dump(root);
		if (!text)
			*rc = err_set(e, -ENOMEM, "%s: no memory", name);
	}
	json_decref(root);
	return text;
}

int results_write(
	const struct results *r, const char *dir, char *path, size_t path_size, struct err *e)
{
	char name[96], *text;
	int rc, fd;

	results_file_name(r, name, sizeof(name));
	text = encode_checked(r, name, &rc, e);
	if (!text)
		return rc;
	rc = results_make_dirs(dir);
	fd = rc ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!rc)
		rc = fd < 0 ? -errno : write_file(fd, name, text);
	if (fd >= 0)
		close(fd);
	free(text);
	if (rc)
		return err_set(e, rc, "write %s/%s: %s", dir, name, strerror(-rc));
	if (path)
		snprintf(path, path_size, "%s/%s", dir, name);
	return 0;
}
