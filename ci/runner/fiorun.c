/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fiorun.c - writes the job file, runs fio, reads what it said. */
#include "ci/runner/fiorun.h"
#include "ci/runner/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UL(v) ((unsigned long long)(v))

void cell_name(const struct cell *c, char *out, size_t size)
{
	char jobs[24] = "";

	if (c->jobs)
		snprintf(jobs, sizeof(jobs), ".%ujobs", c->jobs);
	snprintf(out, size, "fio.%s.%uk.qd%u%s%s", c->rw, c->bs_kib, c->qd, jobs,
		c->fsync ? ".fsync" : "");
}

double fio_run_seconds(const struct fio_run *r)
{
	return r->n * (r->runtime_s + r->ramp_s) + 0.7;
}

static void write_engine(FILE *f, const struct bench *b, const struct fio_run *r)
{
	if (r->side == SIDE_RAW) {
		fprintf(f, "ioengine=io_uring\ndirect=1\nfilename=raw\n%s", b->raw_options);
		return;
	}
	if (r->side == SIDE_RBD) {
		fprintf(f, "ioengine=rbd\nclientname=admin\npool=rbd\nrbdname=%s\n", r->image);
		return;
	}
	fprintf(f, "ioengine=lsvd\ncreate=%llu\n", UL(r->region_bytes));
	if (r->memory) {
		fprintf(f, "image=mem:%s\npool=mem:%llu\ndrive=%s\n", r->image,
			UL(r->pool_bytes), r->all_cpus ? "auto" : "inline");
		return;
	}
	fprintf(f, "image=%s/%s\n", r->store ? r->store : "file:store", r->image);
	if (r->pool)
		fprintf(f, "pool=%s\n", r->pool);
	else
		fprintf(f, "pool=file:pool-%s\n", r->image);
	if (r->mirror && r->mirror[0])
		fprintf(f, "mirror=%s\n", r->mirror);
	fprintf(f, "set=pool.size=%llu%s%s\n", UL(r->pool_bytes), r->set ? "," : "",
		r->set ? r->set : "");
}

static void write_global(FILE *f, const struct bench *b, const struct fio_run *r)
{
	fprintf(f, "[global]\n");
	write_engine(f, b, r);
	fprintf(f, "thread=1\nsize=%llu\nnorandommap=1\nrandrepeat=0\nrandseed=%u\nrwmixread=70\n",
		UL(r->region_bytes), r->seed);
	/* From the call to the completion: where an engine does its work differs. */
	fprintf(f, "lat_percentiles=1\nclat_percentiles=0\n");
	fprintf(f, "runtime=%.0fms\n", 1e3 * r->runtime_s);
	if (r->io_bytes)
		fprintf(f, "io_size=%llu\n", UL(r->io_bytes));
	else
		fprintf(f, "time_based=1\n");
	if (r->ramp_s > 0)
		fprintf(f, "ramp_time=%.0fms\n", 1e3 * r->ramp_s);
	if (r->extra)
		fprintf(f, "%s\n", r->extra);
}

static int write_job(
	const struct bench *b, const struct fio_run *r, const char *path, struct err *e)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	write_global(f, b, r);
	for (unsigned i = 0; i < r->n; i++) {
		const struct cell *c = &r->cells[i];

		fprintf(f, "[c%u]\n%srw=%s\nbs=%uk\niodepth=%u\n", i, i ? "stonewall\n" : "", c->rw,
			c->bs_kib, c->qd);
		if (c->fsync)
			fprintf(f, "fsync=1\n");
		if (c->jobs)
			fprintf(f, "numjobs=%u\ngroup_reporting=1\n", c->jobs);
		if (c->io_bytes)
			fprintf(f, "time_based=0\nruntime=60\nio_size=%llu\n", UL(c->io_bytes));
		if (r->stats && r->side == SIDE_LSVD)
			fprintf(f, "stats_json=stats-%u.json\n", i);
	}
	return fclose(f) ? err_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int read_out(
	const char *path, const struct fio_run *r, struct fio_figures *out, struct err *e)
{
	char *text = file_text(path, NULL);
	int rc = 0;

	if (!text)
		return err_set(e, -EIO, "%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < r->n && !rc; i++) {
		char job[16];

		snprintf(job, sizeof(job), "c%u", i);
		rc = fio_parse(text, job, &out[i], e);
	}
	free(text);
	return rc;
}

int fio_run(struct bench *b, const struct fio_run *r, struct fio_figures *out, struct err *e)
{
	char job[BENCH_PATH + 16], json[BENCH_PATH + 16], log[BENCH_PATH + 16],
		lib[BENCH_PATH + 64];
	const char *argv[] = {"fio", "--output-format=json+", "--output=fio.json", "job.fio", NULL};
	const char *env[] = {lib, "LSVD_SYSTEM_CONFIG=lsvd.json", "XDG_CONFIG_HOME=.", NULL};
	struct child c = {.argv = argv,
		.env = env,
		.cwd = b->dir,
		.log = log,
		.cpu = r->memory && !r->all_cpus ? (int)sysconf(_SC_NPROCESSORS_ONLN) - 1 : -1,
		.limit_s = 3 * fio_run_seconds(r) + 60};
	int rc;

	snprintf(job, sizeof(job), "%s/job.fio", b->dir);
	snprintf(json, sizeof(json), "%s/fio.json", b->dir);
	snprintf(log, sizeof(log), "%s/fio.log", b->dir);
	snprintf(lib, sizeof(lib), "LD_LIBRARY_PATH=%s/lsvd-engine", b->o);
	rc = write_job(b, r, job, e);
	if (!rc)
		rc = child_run(&c, e);
	if (!rc)
		rc = read_out(json, r, out, e);
	return rc;
}
