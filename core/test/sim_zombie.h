/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_zombie.h - two writers: one lost its locks and does not know (a machine that slept), or has them
 * (it is stopped, or out of reach) and they are stolen; another takes the images with a pool of its
 * own.  The first must learn of it at its next superblock
 * change, and nothing that it wrote since may ever be seen (I11, I6).
 */
#ifndef LSVD_TEST_SIM_ZOMBIE_H
#define LSVD_TEST_SIM_ZOMBIE_H

#include "test/sim_world.h"

/* The present writer becomes the zombie, and another opens its images. */
void zombie_rises(struct world *w);

/* Now and then it writes. */
void zombie_acts(struct world *w);

/* It does what makes it learn, and closes what it has. */
void zombie_learns(struct world *w);

#endif
