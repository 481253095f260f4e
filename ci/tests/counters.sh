#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# counters.sh [NAME...]: what a request and a boot cost, in counts, against ci/counters.json.  Without NAME: all tests.
#
# Instructions want valgrind; without it their test is skipped.  What is over its budget is named, with what it may be: either
# the change that did it is worth that much, and then raises the budget in its own commit, or it is not.
# O is the build folder.  Last line: `counters: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$O/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-counters-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
pass=0 fail=0 skip=0
export LSVD_BENCH_DIR=$tmp/data

measure() { # PART
	[ ! -e "$tmp/$1" ] || return 0
	timeout 300 "$O/ci-bench" quick --build="$O" --only "$1" --rounds 1 --no-page --data "$tmp/$1" > "$tmp/log" 2>&1 < /dev/null && return
	echo "  ci-bench --only $1 failed:"
	sed 's/^/  | /' "$tmp/log" | tail -n 15
	return 1
}
gate() { # PART GLOB
	"$lsvd" results gate -d "$tmp/$1" --figure "$2" latest ci/counters.json > "$tmp/out" 2>&1 && return
	sed 's/^/  | /' "$tmp/out"
	return 1
}

requests_cost_no_more_instructions() {
	command -v valgrind > /dev/null || { echo "  no valgrind (package valgrind)"; return 77; }
	measure counters && gate counters 'counters.*.instructions_per_io'
}
requests_cost_no_more_allocations_and_system_calls() { measure counters && gate counters 'counters.*[cl]s_per_io'; }
requests_cost_no_more_traffic() {
	measure counters && gate counters 'counters.*_bytes_per_byte' && gate counters 'counters.*.puts' && gate counters 'counters.*.gets'
}
boots_fetch_no_more() { measure boot.virtual && gate boot.virtual 'boot.*'; }

every_line_of_the_budget_is_tested() {
	local n
	n=$(grep -c most ci/counters.json)
	measure counters && measure boot.virtual || return
	for p in 'counters.*.instructions_per_io' 'counters.*[cl]s_per_io' 'counters.*_bytes_per_byte' 'counters.*.puts' 'counters.*.gets' 'boot.*'; do
		# That it says what is not in this file, too, is no matter here.
		{ "$lsvd" results gate -d "$tmp/counters" --figure "$p" latest ci/counters.json 2> /dev/null || true; } | sed -n 's/^\([0-9]*\) figures, .*/\1/p'
	done | awk -v n="$n" '{ s += $1 } END { if (s != n) { print "  " s " of " n " lines are tested"; exit 1 } }'
}

# A gate that never closes would be none.
what_is_over_is_named() {
	measure counters || return
	echo '{"counters.write.4k.puts": {"most": 3, "tolerance_percent": 20}}' > "$tmp/less"
	if "$lsvd" results gate -d "$tmp/counters" latest "$tmp/less" > "$tmp/out" 2>&1; then echo "  4 PUTs passed for 3"; return 1; fi
	grep -q 'counters.write.4k.puts: measured 4, allowed 3.6 (most 3, tolerance 20 %)' "$tmp/out" || { cat "$tmp/out"; return 1; }
}

all='requests_cost_no_more_instructions requests_cost_no_more_allocations_and_system_calls requests_cost_no_more_traffic
	boots_fetch_no_more every_line_of_the_budget_is_tested what_is_over_is_named'
[ $# -gt 0 ] || set -- $all
for t in "$@"; do
	rc=0
	"$t" || rc=$?
	case $rc in
	0) echo "ok   $t"; pass=$((pass + 1)) ;;
	77) echo "skip $t"; skip=$((skip + 1)) ;;
	*) echo "FAIL $t"; fail=$((fail + 1)) ;;
	esac
done
echo "counters: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ] && [ $((pass + skip)) -gt 0 ]
