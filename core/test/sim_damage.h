/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_damage.h - an object is damaged while an image is opened: the answer is an error or the
 * truth, never wrong data; and when the object is whole again, so is the image (I10).
 */
#ifndef LSVD_TEST_SIM_DAMAGE_H
#define LSVD_TEST_SIM_DAMAGE_H

#include "test/sim_world.h"

/* Damage one of the closed image's objects, open read-only, read everything, mend. */
void damage_try(struct vol *v);

#endif
