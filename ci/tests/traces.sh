#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# traces.sh [NAME...]: `lsvd trace` on traces that others recorded; without NAME: all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `traces: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
samples=trace/test/samples
boots=workloads/boot
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-traces-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0 skipped=0

show() { sed 's/^/  | /' "$out" | tail -n 15; }
ok() { "$lsvd" trace "$@" > "$out" 2>&1 < /dev/null || { echo "  exit code $?: lsvd trace $*"; show; return 1; }; }
# exits CODE lsvd-trace-arguments
exits() {
	local want=$1 rc=0
	shift
	"$lsvd" trace "$@" > "$out" 2>&1 < /dev/null || rc=$?
	[ $rc = "$want" ] || { echo "  exit code $rc, not $want: lsvd trace $*"; show; return 1; }
}
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }
lacks() { if grep -qE -- "$1" "$out"; then echo "  '$1' in:"; show; return 1; fi; }
skip() { echo "  skipped: $*"; return 77; }

commands_explain_themselves() {
	local c
	for c in analyse compare dump export import info plot replay; do
		ok $c --help && has "^Usage: lsvd trace $c " && has '^ *(example: )?lsvd trace ' || return
		exits 2 $c --no-such-option && exits 2 $c || return
	done
	ok import --help && has '^  msr +MSR Cambridge' && has '^  vscsi ' && lacks oracleGeneral
}

# What every format says of the first volume of its sample, by way of a trace and CSV.
samples_become_traces() {
	local f v
	while read -r f v; do
		ok import -q ${v:+--volume "$v"} $samples/"$f" "$tmp/t" && ok export -q "$tmp/t" "$tmp/csv" || return
		cut -d , -f 3-5 "$tmp/csv" | grep -v F > "$out"
		printf '%s\n' op,offset_bytes,len_bytes R,8192,4096 W,0,512 R,1073741824,65536 W,8192,4096 R,4096,1024 W,65536,16384 |
			cmp - "$out" || return
	done <<- END
		msr.csv hm_0
		alibaba.csv 3
		tencent.csv 1283
		spc.txt 0
		vscsi1.bin
		vscsi2.bin
	END
}

pipes_and_compressed_files() {
	gzip -c < $samples/alibaba.csv > "$tmp/a.gz" || return
	ok import -V 3 "$tmp/a.gz" "$tmp/t1" && "$lsvd" trace import -q -V 3 - - < $samples/alibaba.csv > "$tmp/t2" || return
	"$lsvd" trace export -q "$tmp/t1" > "$tmp/c1" && "$lsvd" trace export -q - < "$tmp/t2" > "$tmp/c2" && cmp "$tmp/c1" "$tmp/c2" || return
	# shellcheck disable=SC2002
	if cat "$tmp/a.gz" | "$lsvd" trace import -q -V 3 - "$tmp/t3" 2> "$out"; then return 1; fi
	has 'put gzip -dc in front of it' || return
	head -c 60 "$tmp/a.gz" > "$tmp/cut.gz"
	exits 1 import -V 3 "$tmp/cut.gz" "$tmp/t3" && has 'damaged or cut off' && [ ! -e "$tmp/t3" ]
}

several_volumes() {
	exits 1 import $samples/msr.csv "$tmp/new" && has "msr.csv:5: requests to 'hm_0' and to 'hm_1': choose one with --volume" || return
	[ ! -e "$tmp/new" ] || { echo "  a failed import left a file"; return 1; }
	exits 1 import -V hm_9 $samples/msr.csv "$tmp/t" && has 'it has hm_0, hm_1' || return
	ok import --list $samples/msr.csv && has '^hm_0 +6 ' && has '^hm_1 +1 ' || return
	ok import --split $samples/msr.csv "$tmp/split" && has '7 requests to 2 volumes \(msr\)' || return
	[ "$(cd "$tmp/split" && echo *)" = 'hm_0.trace hm_1.trace' ] || return
	ok info --json "$tmp/split/hm_0.trace" && has '"requests": 6' || return
	exits 2 import --split -V hm_0 $samples/msr.csv "$tmp/x" && exits 2 import --list $samples/msr.csv "$tmp/x"
}

bad_lines() {
	{ cat $samples/spc.txt; echo '0,12,x,R,4.0'; echo '0,8,512,R,5'; } | grep -v ^1 > "$tmp/bad"
	exits 1 import "$tmp/bad" "$tmp/t" && has "bad:7: bad size 'x'" || return
	ok import --skip-bad --json "$tmp/bad" "$tmp/t" && has '"bad": 1' && has '"requests": 7' && has 'bad:7: bad size' || return
	exits 1 import --size 1G "$tmp/bad" "$tmp/t" && has 'bad:3: impossible request: .it ends beyond the size' || return
	exits 2 import -f floppy "$tmp/bad" "$tmp/t" && has 'no format .floppy. to read; there are lsvd, iolog' || return
	exits 2 export -f msr "$tmp/t" && has 'to write; there are lsvd'
}

# Python, if there is one, reads the accesses as libCacheSim does, and searches for the next ones.
oracle_general() {
	command -v python3 > /dev/null || { skip 'no python3'; return; }
	ok export -q -f oracleGeneral --memory 100K $boots/srv-1.csv "$tmp/o" || return
	"$lsvd" trace export -q -f oracleGeneral $boots/srv-1.csv > "$tmp/o2" && cmp "$tmp/o" "$tmp/o2" || return
	python3 - "$tmp/o" > "$out" <<- 'END'
		import struct, sys
		a = list(struct.iter_unpack("<IQIq", open(sys.argv[1], "rb").read()))
		following, bad = {}, 0
		for number in range(len(a), 0, -1):
		    time, block, size, after = a[number - 1]
		    bad += after != following.get(block, -1) or size != 4096
		    following[block] = number
		print(len(a), len(following), bad)
	END
	has '^[0-9]{5} [0-9]{5} 0$'
}

analyse() {
	ok analyse $boots/srv-1.csv && has '^different blocks +17088 ' && has '^working set ' && has '^never before +99' || return
	ok analyse --json --samples 4096 --exact --block 8K --ops reads $boots/srv-1.csv || return
	has '"mean_absolute_error": 0\.0' && has '"block_bytes": 8192' && has '"heat_map"' && has '"window_ns"' || return
	exits 2 analyse --block 5000 $boots/srv-1.csv && exits 2 analyse --rate 2 $boots/srv-1.csv && exits 2 analyse --ops some x || return
	exits 1 analyse "$tmp/none" && has none
}

compare() {
	ok compare $boots/srv-1.csv $boots/srv-2.csv && has '^Jaccard +0.9999' && has "Kendall's tau +0.9[0-9]" || return
	ok compare --json $boots/srv-1.csv $boots/srv-1.csv && has '"jaccard": 1.0' && has '"spearman": 1.0' && has '"max_displacement": 0' || return
	ok compare --json $boots/srv-1.csv $boots/min-1.csv && has '"jaccard": 0' || return
	exits 2 compare $boots/srv-1.csv && exits 1 compare $boots/srv-1.csv "$tmp/none"
}

pictures() {
	command -v gnuplot > /dev/null || { skip 'no gnuplot'; return; }
	ok analyse -q $boots/srv-1.csv --plot "$tmp/a.png" --title "it's one" && lacks warning && file_is "$tmp/a.png" PNG || return
	ok compare $boots/srv-1.csv $boots/srv-2.csv --plot "$tmp/c.svg" && lacks warning && file_is "$tmp/c.svg" '<svg' || return
	: > "$tmp/empty.csv"
	echo 'submit_ns,complete_ns,op,offset_bytes,len_bytes' > "$tmp/empty.csv"
	ok analyse -q "$tmp/empty.csv" --plot "$tmp/e.png" && file_is "$tmp/e.png" PNG || return
	exits 1 analyse -q $boots/srv-1.csv --plot "$tmp/a.gif" && has 'name it .png or .svg'
}
file_is() { head -c 600 "$1" | grep -qa -- "$2" || { echo "  $1 is not $2"; return 1; }; }

all='commands_explain_themselves samples_become_traces pipes_and_compressed_files several_volumes bad_lines oracle_general
	analyse compare pictures'
for t in ${*:-$all}; do
	start=$SECONDS rc=0
	"$t" || rc=$?
	case $rc in
	0) echo "ok      $t ($((SECONDS - start)) s)"; pass=$((pass + 1)) ;;
	77) echo "skipped $t"; skipped=$((skipped + 1)) ;;
	*) echo "FAILED  $t"; fail=$((fail + 1)) ;;
	esac
done
echo "traces: $pass passed, $fail failed, $skipped skipped"
[ $fail = 0 ]
