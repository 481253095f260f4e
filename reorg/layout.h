/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* layout.h - the inside of a predict_layout; for predict.c only. */
#ifndef LSVD_REORG_LAYOUT_H
#define LSVD_REORG_LAYOUT_H

#include "reorg/predict.h"
#include "reorg/synth.h"

#define LAYOUT_NAME "boot"

struct predict_layout {
	struct synth *synth;
	struct plan_extent *mapped; /* ascending */
	size_t mapped_n;
	uint64_t size_sectors;
};

bool layout_maps(const struct predict_layout *l, uint64_t lba);

#endif
