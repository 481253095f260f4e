#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# engine.sh [NAME...]: the fio engine under the fio of this machine; without NAME: all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `engine: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-engine-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0 skip=0

if ! command -v fio > /dev/null || [ ! -e "$O/lsvd-engine/lsvd" ]; then
	echo "engine.sh: no fio, or no engine in $O/lsvd-engine (make fio-headers; make)"
	echo "engine: 0 passed, 0 failed, 1 skipped"
	exit 0
fi
engine_dir=$(cd "$O/lsvd-engine" && pwd)

# fio with the engine; the image is in a store of the current test.
raw_fio() { (cd "$work" && LSVD_ENGINE_DIR=$engine_dir "$OLDPWD/fio-engine/fio-lsvd" "$@") > "$out" 2>&1; }
run() {
	raw_fio --ioengine=lsvd --image="file:$work/store/vm" --pool="file:$work/pool" --set=pool.size=128M,pool.segment=4M \
		--create=64m --thread --name=t --bs=4k --iodepth=8 "$@"
}
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
quietly() { "$@" > "$out" 2>&1; }
ok() { "$@" || { echo "  failed: $*"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
fails() { if "$@"; then echo "  did not fail: $*"; return 1; fi; }

engine_help() {
	ok raw_fio --enghelp=lsvd || return
	for o in image pool mirror config set create durability drive trace stats_json readonly no_journal; do has "^$o " || return; done
}

foreign_headers_are_refused() {
	local inc=$tmp/inc
	mkdir "$inc" || return
	(cd "$(ci/fio-headers --cached)" && find . -name '*.h' -print0 | tar -c --null -T -) | tar -x -C "$inc" || return
	sed -i 's/^struct thread_data {$/&\n\tchar of_another_version[64];/' "$inc/fio.h"
	grep -q of_another_version "$inc/fio.h" || return
	ok quietly make -s O="$O" FIO_INC="$inc" engine_dir="$tmp/foreign" engine || return
	engine_dir=$tmp/foreign
	fails run --rw=randwrite --number_ios=1 || return
	has 'built with the headers of inc, and this is fio-' && has 'rebuild the engine' || return
	[ ! -e "$work/store/vm" ] && [ ! -e "$work/pool" ]
}

json_output() {
	ok run --rw=randrw --number_ios=2000 --output-format=json+ --stats_json="$work/stats.json" || return
	has '"error" : 0,' && has '"bins" : \{' && has '"total_ios" : [1-9]' || return
	grep -q '"writes"' "$work/stats.json" && grep -q '"reads"' "$work/stats.json"
}

verify() {
	ok run --rw=randwrite --bsrange=4k-64k --verify=crc32c --verify_fatal=1 --size=32m || return
	ok run --rw=write --bs=64k --verify=pattern --verify_pattern=0x12345678 --size=32m || return
	has 'err= 0' || return
	ok run --rw=read --bs=64k --verify=pattern --verify_pattern=0x12345678 --verify_fatal=1 --size=32m
}

verify_sees_a_difference() {
	ok run --rw=write --bs=64k --size=1m --verify=pattern --verify_pattern=0x11 --do_verify=0 || return
	fails run --rw=read --bs=64k --size=1m --verify=pattern --verify_pattern=0x22 --verify_fatal=1
}

verify_state() {
	ok run --rw=randwrite --verify=crc32c --number_ios=500 --do_verify=0 --verify_state_save=1 --size=16m || return
	ls "$work"/*-verify.state > /dev/null || return
	ok run --rw=randread --verify=crc32c --verify_state_load=1 --verify_fatal=1 --size=16m || return
	has 'READ: .*io=2000KiB'
}

threads_share_an_image() {
	ok run --rw=randwrite --numjobs=4 --size=8m --offset_increment=8m --verify=crc32c --verify_fatal=1 || return
	[ "$(grep -c 'err= 0' "$out")" = 4 ] || return
	ok run --rw=randrw --numjobs=3 --number_ios=500 --drive=thread --group_reporting
}

inline_is_for_one_job() {
	ok run --rw=randwrite --number_ios=100 --drive=inline || return
	fails run --rw=randwrite --number_ios=100 --drive=inline --numjobs=2 || return
	has 'drive=inline is for one job at a time' || return
	printf '[global]\nrw=randwrite\nnumber_ios=50\nsize=4m\n[a]\n[b]\nstonewall\n' > "$work/two.fio"
	ok run --number_ios=1 --rw=randwrite --drive=inline > /dev/null || return
	ok raw_fio --ioengine=lsvd --image="file:$work/store/vm" --pool="file:$work/pool" --drive=inline "$work/two.fio"
}

one_library_thread_drive() { ok run --rw=randwrite --drive=thread --verify=crc32c --size=8m; }

# Three jobs of one run on two images that share a pool.
two_images() {
	cat > "$work/two.fio" <<-END
		[global]
		ioengine=lsvd
		pool=file:$work/pool
		set=pool.size=128M,pool.segment=4M
		create=16m
		verify=crc32c
		rw=randwrite
		size=8m
		[a]
		image=file:$work/store/a
		[b]
		image=file:$work/store/b
		[c]
		image=file:$work/store/b
		offset=8m
	END
	ok raw_fio "$work/two.fio" && [ "$(grep -c 'err= 0' "$out")" = 3 ]
}

second_process_is_refused() {
	ok run --rw=randwrite --number_ios=1 || return
	(exec env LSVD_ENGINE_DIR="$engine_dir" fio-engine/fio-lsvd --ioengine=lsvd --image="file:$work/store/vm" \
		--pool="file:$work/pool" --name=t --rw=randwrite --bs=4k --rate_iops=100 --time_based --runtime=60 --trace="$work/trace" \
		> "$work/first" 2>&1) &
	background=$!
	trap 'kill "$background" 2> /dev/null' EXIT
	for _ in $(seq 100); do
		[ ! -e "$work/trace" ] || break # it has opened the image
		sleep 0.1
	done
	fails run --rw=randwrite --number_ios=1 && has '^lsvd: .*(in use|another process|belongs)' && has 'err=16/' || return
	kill -INT "$background"; wait "$background"
	ok run --rw=randwrite --number_ios=1
}

trim() {
	ok run --rw=write --bs=64k --size=8m || return
	ok run --rw=trim --bs=64k --size=4m || return
	has 'TRIM: .*io=4096KiB' || return
	ok run --rw=read --bs=64k --size=4m --verify=pattern --verify_pattern=0 --verify_fatal=1 || return
	fails run --rw=read --bs=64k --offset=4m --size=4m --verify=pattern --verify_pattern=0 --verify_fatal=1 || return
	ok run --rw=randtrim --bs=16k --number_ios=200 || return
	ok run --rw=trimwrite --bs=64k --size=2m
}

flushes() { sed -n 's/.*"flushes"[^0-9]*\([0-9]*\).*/\1/p' "$work/stats.json" | head -n 1; }

between() { if [ "${2:-0}" -lt "$1" ] || [ "${2:-0}" -gt "$3" ]; then echo "  $2 is not between $1 and $3"; return 1; fi; }

# One flush for each fsync that was asked for, and none for those fio 3.33 doubles.
fsync() {
	ok run --rw=randwrite --fsync=1 --iodepth=1 --number_ios=200 --stats_json="$work/stats.json" || return
	between 199 "$(flushes)" 201 || return
	ok run --rw=randwrite --fsync=8 --number_ios=400 --stats_json="$work/stats.json" || return
	between 20 "$(flushes)" 55 || return
	ok run --rw=randwrite --fdatasync=4 --iodepth=1 --number_ios=100 --end_fsync=1 || return
	ok run --rw=randwrite --sync=1 --number_ios=100 || return
	ok run --rw=randread --fsync=1 --number_ios=100 --stats_json="$work/stats.json" || return
	[ "$(flushes)" = 0 ]
}

durable_in_the_store() { ok run --rw=randwrite --durability=store --fsync=16 --number_ios=64 --verify=crc32c; }

readonly_image() {
	ok run --rw=write --bs=64k --size=1m --verify=crc32c || return
	ok run --rw=read --bs=64k --size=1m --verify=crc32c --readonly || return
	printf '[t]\nioengine=lsvd\nimage=file:%s/store/vm\npool=file:%s/pool\nreadonly=1\nrw=write\nsize=1m\n' "$work" "$work" > "$work/ro.fio"
	fails raw_fio "$work/ro.fio" && has 'Read-only file system'
}

mistakes_are_explained() {
	fails raw_fio --ioengine=lsvd --name=t --rw=read && has 'lsvd: which image' || return
	fails raw_fio --ioengine=lsvd --image="file:$work/store/none" --pool=mem:64M --name=t --rw=read && has '^lsvd: .*does not exist' || return
	fails run --rw=read --set=pool.sice=1G && has "did you mean 'pool.size'" || return
	fails run --rw=read --set=pool.size && has 'is not KEY=VALUE' || return
	fails run --rw=read --durability=maybe && has 'journal\|store' || return
	fails run --rw=read --pool=floppy: && has '^lsvd: .*floppy' || return
	fails run --rw=read --nrfiles=2 && has 'nrfiles must be 1' || return
	ok run --rw=write --number_ios=1 || return
	fails run --rw=write --bs=1000 --number_ios=1 && has 'Invalid argument'
}

log_replay() {
	ok run --rw=randwrite --number_ios=200 --write_iolog="$work/io.log" --size=8m || return
	ok run --rw=randwrite --read_iolog="$work/io.log" --replay_no_stall=1 || return
	has 'issued rwts: total=0,200,'
}

trace_file() {
	ok run --rw=randwrite --number_ios=100 --trace="$work/t.trace" && [ -s "$work/t.trace" ]
}

job_files() {
	local f
	for f in workloads/fio/*.fio; do
		DIR=$work ok raw_fio --parse-only "$PWD/$f" || return
	done
	DIR=$work ok raw_fio "$PWD/workloads/fio/verify.fio"
}

memory_only() { ok run --rw=randwrite --image=mem:vm --pool=mem:128M --verify=crc32c --size=16m; }

tests=(engine_help foreign_headers_are_refused json_output verify verify_sees_a_difference verify_state
	threads_share_an_image inline_is_for_one_job one_library_thread_drive two_images second_process_is_refused trim fsync
	durable_in_the_store readonly_image mistakes_are_explained log_replay trace_file job_files memory_only)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	work=$tmp/$t
	mkdir "$work"
	began=$SECONDS
	if (
		"$t"
	); then pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)"
	else fail=$((fail + 1)); echo "FAILED  $t"
	fi
	rm -rf "$work"
done
echo "engine: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
