#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# corrupt.sh: every byte of every header on disk and in the store flipped, and much more, one at a time
# (core/test/test_corrupt.c): detected or harmless, never wrong data, never a crash.
#
# CORRUPT_STEP (1): pass over so many bytes of headers from one to the next.  O is the build folder.
# Last line: `corrupt: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
export CORRUPT_STEP=${CORRUPT_STEP:-1}
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-corrupt-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# Two halves that take about as long as each other.
"$O/test/test_corrupt" data_objects > "$tmp/1" 2>&1 &
one=$!
all=$("$O/test/test_corrupt" -l | grep -v '^data_objects$')
# shellcheck disable=SC2086
"$O/test/test_corrupt" $all > "$tmp/2" 2>&1
two=$?
wait $one
one=$?
grep -ahE 'refused, |ERROR:|replay with' "$tmp/1" "$tmp/2"
trials=$(sed -nE 's/.*: ([0-9]+) refused, ([0-9]+) partly readable, ([0-9]+) harmless$/\1 \2 \3/p' "$tmp/1" "$tmp/2" |
	awk '{ n += $1 + $2 + $3 } END { print n + 0 }')
echo "$trials damaged images"
read -r pass fail skip < <(sed -nE 's/^test_corrupt: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$tmp/1" "$tmp/2" |
	awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }')
# One that crashed did not sum up.
[ $((one + two)) = 0 ] || [ "$fail" != 0 ] || { fail=1; tail -n 5 "$tmp/1" "$tmp/2"; }
echo "corrupt: $pass passed, $fail failed, $skip skipped"
[ "$fail" = 0 ] && [ "$trials" -gt 0 ]
