#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Writes vscsi1.bin and vscsi2.bin beside itself: the requests of README, a TEST UNIT READY, and a flush.
import os
import struct

READ10, WRITE10, READY, FLUSH = 0x28, 0x2A, 0x00, 0x35
records = [  # operation, sector, bytes, microseconds, response time
    (READ10, 16, 4096, 7000000, 500),
    (WRITE10, 0, 512, 7000100, 261),
    (READ10, 2097152, 65536, 7000200, 10000),
    (READY, 0, 0, 7500000, 3),
    (WRITE10, 16, 4096, 8000000, 232),
    (READ10, 8, 1024, 9000000, 103),
    (WRITE10, 128, 16384, 10500000, 0),
    (FLUSH, 0, 0, 10500001, 900),
]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "vscsi1.bin"), "wb") as f:
    for n, (cmd, lbn, size, ts, _) in enumerate(records):
        f.write(struct.pack("<IIIHHQQ", n, size, 1, cmd, 0x0100, lbn, ts))
with open(os.path.join(here, "vscsi2.bin"), "wb") as f:
    for n, (cmd, lbn, size, ts, rt) in enumerate(records):
        f.write(struct.pack("<HHIIIQQQ", cmd, 0x0200, n, size, 1, lbn, ts, rt))
