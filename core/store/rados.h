/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rados.h - objects in a pool of a Ceph cluster: `rados:POOL` or `rados:POOL/NAMESPACE`.
 *
 * The object `vm1/x` is the RADOS object of that name.  Superblocks and lists of clones
 * (`vm1/super`, `vm1/clones`) are in POOL; all else of an image is in its data pool: POOL, or what
 * `rados.data_pool` said when the image was made (an attribute of its superblock remembers).
 * Neither needs omap nor partial overwrites, so the data pool may be erasure-coded as it is.
 *
 * `vm1/.lock` is there while somebody has the image open for writing.
 *
 * A request is answered when the cluster did, or has failed with -ETIMEDOUT after `rados.timeout`
 * seconds; meanwhile librados reconnects and sends again what was not answered, and the cluster
 * knows what it has done already.
 */
#ifndef LSVD_STORE_RADOS_H
#define LSVD_STORE_RADOS_H

#include "store/store.h"

#include <errno.h>

#ifdef HAVE_RADOS

/* `spec` is what follows "rados:". */
int store_rados_open(struct loop *l, const char *spec, const struct config *cfg, struct store **out,
	struct err *e) MUST_CHECK;

/* From now on `rados:POOL[/NAMESPACE]` on this loop means the cluster that this rados_ioctx_t is
 * of, which must stay connected until store_rados_forget() and until the stores are closed; the
 * ioctx itself need not stay.  -EINVAL: it is of another pool or namespace. */
int store_rados_adopt(struct loop *l, const char *url, void *ioctx, struct err *e) MUST_CHECK;
void store_rados_forget(struct loop *l);

#else

static inline int store_rados_none(const char *spec, struct err *e)
{
	return err_set(e, -EOPNOTSUPP,
		"'rados:%.100s': this lsvd was built without RADOS; build it where librados-dev is",
		spec);
}
static inline int store_rados_open(struct loop *l, const char *spec, const struct config *cfg,
	struct store **out, struct err *e)
{
	(void)l, (void)cfg, (void)out;
	return store_rados_none(spec, e);
}
static inline int store_rados_adopt(struct loop *l, const char *url, void *ioctx, struct err *e)
{
	(void)l, (void)ioctx;
	return store_rados_none(url, e);
}
static inline void store_rados_forget(struct loop *l)
{
	(void)l;
}

#endif

#endif
