#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# kill9.sh: kill -9 in the middle of things, 252 times; every write that was acknowledged must be there afterwards.
#
#   220 times a program that notes each acknowledgement in shared memory (core/test/test_kill9.c): while it writes,
#       collects garbage, writes checkpoints, resizes, makes snapshots; each also with a full pool and with a full store,
#    12 times fio, which notes what it wrote (verify state) right before it kills itself, at a random moment; every third
#       time with a full pool, and every third time with a store that gets full meanwhile,
#    20 times `lsvd reorg`, every fourth time into a store that gets full; the base must be as it was, and the new image
#       whole or not there.
#
# These go on side by side, for most of it is waiting.
# KILL9_ROUNDS (220), FIO_ROUNDS (12) and REORG_ROUNDS (20) change the numbers.  O is the build folder.
# Last line: `kill9: N passed, N failed, N skipped`, one for each kill; exit code 0 when none failed.
# shellcheck disable=SC2030,SC2031 # each lane has its own
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
export KILL9_ROUNDS=${KILL9_ROUNDS:-220}
fio_rounds=${FIO_ROUNDS:-12} reorg_rounds=${REORG_ROUNDS:-20}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-kill9-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'jobs -p | xargs -r kill; exit 130' INT TERM

# lane NAME COMMAND...: side by side with others, in a folder of its own; each counts for itself.
lanes=()
lane() {
	local name=$1 all=$tmp
	shift
	lanes+=("$name")
	(
		tmp=$all/$name pass=0 fail=0 skip=0
		mkdir "$tmp"
		"$@"
		echo "$pass $fail $skip" > "$all/$name.sum"
	) > "$all/$name.out" 2>&1 &
}

# A program that notes what it did: these of its tests.
notes() {
	local kills
	if "$O/test/test_kill9" "$@" > "$tmp/out" 2>&1; then
		kills=$(sed -nE '/^kill9-lies/d; s/^[a-z-]+: ([0-9]+) kills.*/\1/p' "$tmp/out" | awk '{ n += $1 } END { print n + 0 }')
		pass=$((pass + kills))
		grep -E 'acknowledged$' "$tmp/out"
	else
		fail=$((fail + 1))
		tail -n 20 "$tmp/out"
	fi
}

# fio with the engine in the folder of the test, below a store filter; sizes: pool.size and object.size.
filter='' sizes=pool.size=128M,object.size=4M
run() {
	(cd "$tmp" && LSVD_ENGINE_DIR=$engine_dir "$OLDPWD/fio-engine/fio-lsvd" --ioengine=lsvd --image="${filter}file:$tmp/store/vm" \
		--pool="file:$tmp/pool" --set="$sizes,pool.segment=1M,checkpoint.interval=4M" --create=2g \
		--thread --name=t --iodepth=16 --verify=crc32c "$@") > "$tmp/out" 2>&1
}

objects() { find "$tmp/store/vm" -type f 2> /dev/null | wc -l; }

# What is short in this round: nothing, the pool (the store is slow), or the store, after 9 objects.
shortage() {
	filter='' sizes=pool.size=128M,object.size=4M short=nothing
	case $(($1 % 3)) in
	1) filter=model:custom,put=300ms: sizes=pool.size=24M,object.size=1M short='the pool' ;;
	2) filter=fault:seed=1,full_after=40000000: short='the store' ;;
	esac
}

# Kill fio at a random moment once it has put objects.  Each time in a new image and each block once: verify does not
# tell a block from what an earlier run wrote there.
write_and_kill() {
	local pid
	rm -rf "$state" "$tmp/trigger" "$tmp/store" "$tmp/pool"
	# shellcheck disable=SC2016 # for the shell that fio starts
	run --rw=randwrite --bs=4k --size=2g --do_verify=0 --verify_state_save=1 --drive="$2" \
		--trigger-file="$tmp/trigger" --trigger='kill -9 $PPID' &
	pid=$!
	for _ in $(seq 200); do [ "$(objects)" -le "$1" ] || break; sleep 0.02; done
	sleep "0.$(printf %03d $((RANDOM % 400)))"
	touch "$tmp/trigger"
	wait $pid 2> /dev/null
	if [ $? != 137 ] || [ ! -s "$state" ]; then
		echo "  fio was not killed, or left no state"; tail -n 15 "$tmp/out"; return 1
	fi
}

# Read back what the state names, one by one: fio stops before what was in flight by counting the reads that are done.
read_back() { run --rw=randread --iodepth=1 --bs=4k --size=2g --verify_state_load=1 --verify_fatal=1 "$@"; }

kill_fio() {
	local least=3
	[ "$short" != 'the store' ] || least=8
	write_and_kill $least "$1" || return
	filter=''
	# Without the journal it is often not complete (fio writes on a little before it dies): if this never fails, the test
	# does not see what it should.
	read_back --readonly > /dev/null || incomplete=$((incomplete + 1))
	read_back --drive="$1" || { echo "  verify failed:"; grep -aE '^(verify|fio|lsvd):' "$tmp/out" | head -n 8; return 1; }
	bytes=$(sed -n 's/.*READ: .*io=\([^ ]*\) .*/\1/p' "$tmp/out")
	[ -n "$bytes" ] || { echo "  nothing was verified"; tail -n 15 "$tmp/out"; return 1; }
}

with_fio() {
	if ! command -v fio > /dev/null || [ ! -e "$O/lsvd-engine/lsvd" ]; then
		echo "kill9.sh: no fio, or no engine in $O/lsvd-engine (make fio-headers; make)"
		skip=$fio_rounds
		return
	fi
	engine_dir=$(cd "$O/lsvd-engine" && pwd)
	state=$tmp/local-t-0-verify.state incomplete=0
	for round in $(seq "$fio_rounds"); do
		drive=inline
		[ $((round % 2)) = 0 ] || drive=thread
		shortage "$round"
		if kill_fio $drive 2> /dev/null; then pass=$((pass + 1)); echo "fio $round ($drive, full: $short): $bytes verified"
		else fail=$((fail + 1)); fi
	done
	echo "what was only in the journal was missed without it $incomplete times"
	if [ "$fio_rounds" -ge 10 ] && [ $incomplete = 0 ]; then
		fail=$((fail + 1)); echo "FAILED  the test does not see what it should"
	fi
}

# Reorganise an image, and die.  `whole` takes as long as it takes, in seconds.
reorganise() { (exec "$lsvd" reorg -q --trace "$r/boot.csv" "file:$r/store/base" "$1/new" > "$tmp/out" 2>&1); }
prepare_reorg() {
	local i began=$EPOCHREALTIME
	echo "{}" > "$LSVD_SYSTEM_CONFIG"
	mkdir "$r" && dd if=/dev/urandom of="$r/raw" bs=1M count=48 status=none &&
		"$lsvd" import -q --set pool.path=mem:64M --set object.size=1M "$r/raw" "file:$r/store/base" || return
	echo submit_ns,complete_ns,op,offset_bytes,len_bytes > "$r/boot.csv"
	for i in $(seq 300); do echo "$((i * 1000)),$((i * 1000 + 900)),R,$((i * 7919 % 12000 * 4096)),16384"; done >> "$r/boot.csv"
	began=$EPOCHREALTIME
	reorganise "file:$r/store" || return
	whole=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
	"$lsvd" rm -f --set pool.path=mem:64M "file:$r/store/new" || return
	base=$(cd "$r/store/base" && cat -- * | sha256sum)
}

kill_reorg() {
	local pid store=file:$r/store
	[ $(($1 % 4)) != 0 ] || store=fault:seed=1,full_after=$((RANDOM * 1500)):$store
	"$lsvd" reorg -q --trace "$r/boot.csv" "file:$r/store/base" "$store/new" > "$tmp/out" 2>&1 &
	pid=$!
	sleep "$(awk -v w="$whole" -v r=$RANDOM 'BEGIN { print w * r / 32768 }')"
	kill -9 $pid 2> /dev/null
	wait $pid 2> /dev/null
	[ "$base" = "$(cd "$r/store/base" && cat -- * | sha256sum)" ] || { echo "  the base is not as it was"; return 1; }
	if "$lsvd" info "file:$r/store/new" > "$tmp/out" 2>&1; then
		finished=$((finished + 1))
	else
		grep -q 'no image' "$tmp/out" || { cat "$tmp/out"; return 1; }
		reorganise "file:$r/store" || { echo "  it does not begin again:"; cat "$tmp/out"; return 1; }
	fi
	"$lsvd" fsck --data "file:$r/store/new" > "$tmp/out" 2>&1 || { cat "$tmp/out"; return 1; }
	"$lsvd" export -q "file:$r/store/new" - 2> "$tmp/out" | cmp - "$r/raw" || return
	"$lsvd" rm -f --set pool.path=mem:64M "file:$r/store/new"
}

# Nothing is left when there is no room for it, and the base does not care.
reorg_into_a_full_store() {
	for full in full full_after=1000000 full_after=24000000; do
		if reorganise "fault:$full:file:$r/full"; then echo "  reorg into a full store succeeded"; return 1; fi
		grep -q full "$tmp/out" || { cat "$tmp/out"; return 1; }
		[ "$base" = "$(cd "$r/store/base" && cat -- * | sha256sum)" ] && ! "$lsvd" info "file:$r/full/new" > "$tmp/out" 2>&1 || return
		[ -z "$(find "$r/full" -type f ! -name '.*' 2> /dev/null)" ] || { echo "  it left:"; find "$r/full" -type f; return 1; }
	done
}

with_reorg() {
	r=$tmp/reorg finished=0
	[ "$reorg_rounds" -gt 0 ] || return
	export LSVD_SYSTEM_CONFIG=$tmp/none.json XDG_CONFIG_HOME=$tmp XDG_STATE_HOME=$tmp
	if ! prepare_reorg; then fail=$((fail + 1)); echo "FAILED  reorg cannot be prepared"; cat "$tmp/out"; reorg_rounds=0; fi
	for round in $(seq "$reorg_rounds"); do
		if kill_reorg "$round"; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "FAILED  reorg, round $round"; break; fi
	done
	[ "$reorg_rounds" = 0 ] || echo "reorg: $reorg_rounds kills, $finished of them too late"
	if [ "$reorg_rounds" -gt 0 ]; then
		if reorg_into_a_full_store; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "FAILED  reorg into a full store"; fi
	fi
}

mapfile -t others < <("$O/test/test_kill9" -l | grep -v writes)
lane writing notes writes
lane busy notes "${others[@]}"
lane fio with_fio
lane reorg with_reorg
wait
pass=0 fail=0 skip=0
for l in "${lanes[@]}"; do
	cat "$tmp/$l.out"
	read -r p f s < "$tmp/$l.sum" || { p=0 f=1 s=0; echo "FAILED  $l came to no end"; }
	pass=$((pass + p)) fail=$((fail + f)) skip=$((skip + s))
done
echo "kill9: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
