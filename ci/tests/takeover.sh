#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# takeover.sh [STORE-URL...]: one writer, and how an image is taken from it; without STORE-URL: in files.
#
# In each store, whose image `vm` is removed: the tests of core/test/test_takeover.c (processes that are stopped, robbed, and
# go on), and the same through the tool and the fio engine (skipped where there is none): who is named, what is said.
# O is the build folder.  Last line: `takeover: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-takeover-XXXXXX") || exit 1
writer=''
end() {
	[ -z "$writer" ] || { kill -CONT "$writer"; kill -KILL "$writer"; } 2> /dev/null
	rm -rf "$tmp"
}
trap end EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0 skip=0
export LSVD_SYSTEM_CONFIG=$tmp/system.json XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
printf '{"pool": {"size": "64M", "segment": "1M"}, "writer": {"check_ms": 200}}\n' > "$LSVD_SYSTEM_CONFIG"

show() { sed 's/^/  | /' "$out" | tail -n 15; }
ok() { "$lsvd" "$@" > "$out" 2>&1 < /dev/null || { echo "  exit code $?: lsvd $*"; show; return 1; }; }
refused() {
	if "$lsvd" "$@" > "$out" 2>&1 < /dev/null; then echo "  went well: lsvd $*"; return 1; fi
}
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }
lacks() { if grep -qE -- "$1" "$out"; then echo "  '$1' in:"; show; return 1; fi; }

# fio FIO-ARGUMENTS: with the engine, in the folder of the test.
fio_lsvd() {
	(cd "$tmp" && LSVD_ENGINE_DIR=$engine_dir exec "$top/fio-engine/fio-lsvd" --ioengine=lsvd --image="$image" --thread \
		--name=t "$@")
}

# A writer with a pool of its own that goes on until it fails; $writer is its process.
start_writer() {
	fio_lsvd --pool="file:$tmp/pool1" --rw=randwrite --bs=4k --size=32m --time_based --runtime=120 --rate_iops=2000 \
		> "$tmp/writer" 2>&1 &
	writer=$!
	for _ in $(seq 200); do
		ok info "$image" && has '^closed +not cleanly' > /dev/null && return 0
		kill -0 $writer 2> /dev/null || break
		sleep 0.1
	done
	echo "  the writer did not open the image:"; sed 's/^/  | /' "$tmp/writer"; return 1
}

# It has ended, with ESTALE.
writer_learned() {
	local rc=0
	for _ in $(seq 100); do kill -0 "$writer" 2> /dev/null || break; sleep 0.1; done
	kill -0 "$writer" 2> /dev/null && { echo "  the old writer does not know after 10 s"; return 1; }
	wait "$writer" || rc=$?
	writer=''
	if [ $rc = 0 ] || ! grep -q 'Stale file handle' "$tmp/writer"; then
		echo "  the old writer ended with $rc:"; sed 's/^/  | /' "$tmp/writer" | tail
		return 1
	fi
}

write_pattern() { fio_lsvd --pool="file:$tmp/pool2" --rw=write --bs=64k --size=16m --verify=pattern --verify_pattern="$1" --do_verify=0 "${@:2}"; }
read_pattern() { fio_lsvd --pool="file:$tmp/pool2" --rw=read --bs=64k --size=16m --verify=pattern --verify_pattern="$1" --verify_fatal=1; }

by_hand() {
	local second="--pool=file:$tmp/pool2" first="--pool=file:$tmp/pool1"
	ok create "$image" --size 64M && start_writer || return
	# Each door names the holder.
	refused gc "$image" "$second" && has "in use by host $(hostname) pid [0-9]+ since .*; --steal takes it over" || return
	refused snap create "$image@x" "$second" && has 'pid [0-9]+ since' && refused rm "$image" "$second" && has 'pid [0-9]+ since' || return
	write_pattern 0x11 > "$out" 2>&1 && { echo '  fio opened it, too'; return 1; }
	has 'in use by host .* pid [0-9]+ since' || return
	refused gc "$image" "$second" --steal && has 'pid [0-9]+ since' && has '--steal and --no-journal' || return
	kill -STOP "$writer"
	# Readers need nothing.
	ok info "$image" && ok export "$image" "$tmp/raw" --no-journal --force || return
	write_pattern 0x5a --steal=1 --no_journal=1 > "$out" 2>&1 || { show; return 1; }
	has 'taken over from host .* pid [0-9]+ since .*; what that writer had acknowledged and not put into the store is lost' || return
	kill -CONT "$writer"
	writer_learned || return
	read_pattern 0x5a > "$out" 2>&1 || { show; return 1; }
	ok fsck "$image" --data && ok info "$image" && has '^closed +cleanly' || return
	# The loser's journal: refused with the choices, listed, not to be replayed, given up.
	refused gc "$image" "$first" && has 'lsvd journal list' && has 'lsvd journal replay' && has 'lsvd journal discard' || return
	ok journal list "$image" "$first" && has ' old ' && has 'epoch 1 ' && has "$image is at epoch" || return
	ok journal list "$first" && has ' unknown$' && ok journal list "$store" "$first" --json && has '"state": "old"' || return
	refused journal replay "$image" "$first" && has 'written since' || return
	refused journal discard "$image" "$first" && has 'records' && has 'add --yes' || return
	ok journal list "$image" "$first" && has ' old ' || return
	ok journal discard "$image" "$first" --yes && ok journal list "$first" && [ ! -s "$out" ] || return
	ok gc "$image" "$first" && lacks 'taken over' || return
	read_pattern 0x5a > "$out" 2>&1 || { show; return 1; }
	ok rm "$image" "$first"
}

top=$PWD engine_dir=$(cd "$O/lsvd-engine" 2> /dev/null && pwd)
[ $# -gt 0 ] || set -- "file:$tmp/store"
for store in "$@"; do
	sep=/
	case $store in *[:/]) sep='' ;; esac
	image=$store${sep}vm
	if TAKEOVER_STORE=$store "$O/test/test_takeover" > "$out" 2>&1; then
		n=$(sed -nE 's/^test_takeover: ([0-9]+) passed.*/\1/p' "$out")
		pass=$((pass + n))
		echo "ok   $store: $n tests of processes; $(grep -c 'the old writer knew' "$out") old writers, the last to know:" \
			"$(sed -nE 's/^the old writer knew after ([0-9.]+) s.*/\1/p' "$out" | sort -n | tail -n 1) s"
	else
		fail=$((fail + 1))
		echo "FAIL $store: test_takeover"
		tail -n 20 "$out"
	fi
	if [ ! -e "$engine_dir/lsvd" ] || ! command -v fio > /dev/null; then
		skip=$((skip + 1))
		echo "skip $store: the tool and fio: no fio engine was built"
		continue
	fi
	rm -rf "$tmp/pool1" "$tmp/pool2"
	if by_hand; then
		pass=$((pass + 1))
		echo "ok   $store: the tool and fio"
	else
		fail=$((fail + 1))
		echo "FAIL $store: the tool and fio"
	fi
done
echo "takeover: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ] && [ $pass -gt 0 ]
