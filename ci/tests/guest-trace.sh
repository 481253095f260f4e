#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# guest-trace: the conversion of nbdkit's log, and that the committed boot traces are what their README says.
set -u
cd "$(dirname "$0")/../.." || exit 1
pass=0 fail=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
same() { if [ "$2" = "$3" ]; then pass=$((pass + 1)); else fail=$((fail + 1)); printf 'FAILED: %s\nis:     %s\nwanted: %s\n' "$1" "$2" "$3"; fi; }

# Answers out of order, midnight in between, a request without an answer, and lines that are no requests.
got=$(ci/guest to-csv <<'E'
2026-01-01 23:59:59.999990 Ready thread_model=3
2026-01-01 23:59:59.999990 Preconnect id=1 readonly=0 ...
2026-01-01 23:59:59.999991 ...Preconnect id=1 return=0
2026-01-01 23:59:59.999998 connection=1 Read id=1 offset=0x0 count=0x200 ...
2026-01-01 23:59:59.999999 connection=1 Write id=2 offset=0x1f000 count=0x1000 fua=1 ...
2026-01-02 00:00:00.000004 connection=1 ...Write id=2 return=0
2026-01-02 00:00:00.000005 connection=1 Flush id=3 ...
2026-01-02 00:00:00.000006 connection=1 ...Read id=1 return=0
2026-01-02 00:00:00.000007 connection=1 ...Flush id=3 return=0
2026-01-02 00:00:00.000008 connection=1 Trim id=4 offset=0x7fffff000 count=0x1000 fua=0 ...
2026-01-02 00:00:00.000009 connection=1 ...Trim id=4 return=0
2026-01-02 00:00:01.000008 connection=1 Zero id=5 offset=0x0 count=0x2000 may_trim=1 ...
2026-01-02 00:00:01.000009 connection=1 ...Zero id=5 return=0
2026-01-02 00:00:01.000010 connection=1 Read id=6 offset=0x0 count=0x200 ...
2026-01-02 00:00:01.000011 connection=1 Disconnect transactions=6
E
)
same conversion "$got" 'submit_ns,complete_ns,op,offset_bytes,len_bytes
0,8000,R,0,512
1000,6000,W,126976,4096
7000,9000,F,0,0
10000,11000,T,34359734272,4096
1000010000,1000011000,Z,0,8192'

for f in workloads/boot/*.csv; do
	n=$(basename "$f" .csv)
	image=workloads/boot/${n%-[0-9]}.extents
	size=$(head -n 1 "$image")
	same "$f: well-formed, sorted, inside its image" "$(awk -F, -v size="$size" '
		NR == 1 { if ($0 != "submit_ns,complete_ns,op,offset_bytes,len_bytes") bad++; next }
		NF != 5 || $1 < last || $2 < $1 || $3 !~ /^[RWFTZ]$/ || $4 + $5 > size || $4 % 512 || $5 % 512 { bad++ }
		{ last = $1 }
		END { print bad + 0 }' "$f")" 0
	same "$image: ascending runs of 4 KiB blocks" "$(awk -v size="$size" '
		NR > 1 && ($1 < end || $1 % 4096 || $2 % 4096 || !$2 || $1 + $2 > size) { bad++ }
		NR > 1 { end = $1 + $2 + 1 }
		END { print bad + (NR < 2) }' "$image")" 0
	column=$(awk -F'|' -v n="$n" '/\| srv-1 \|/ { for (i = 3; i < NF; i++) { gsub(/ /, "", $i); if ($i == n) print i } }' workloads/boot/README.md)
	told=$(awk -F'|' -v c="${column:-0}" '/^\| reads \/ writes/ || /^\| unique 4 KiB/ { gsub(/ /, "", $c); printf "%s ", $c }' workloads/boot/README.md)
	is=$(ci/guest stats "$f" | sed -nE 's/^requests: ([0-9]+) reads, ([0-9]+) writes, ([0-9]+) flushes.*/\1\/\2\/\3 /p; s/^reads touch ([0-9]+) unique.*/\1 /p' | tr -d '\n')
	same "$n: counts as the README tells" "$is" "$told"
done
same "counts as JSON" "$(ci/guest stats workloads/boot/srv-1.csv json)" ', "reads": 1433, "writes": 103, "flushes": 27, "discards": 0, "zeroes": 0, "read_bytes": 67753984, "write_bytes": 2756608, "unique_bytes": 67747840, "outstanding_ms": 178.078'
echo "guest-trace: $pass passed, $fail failed, 0 skipped"
[ $fail = 0 ]
