#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# filesystems.sh [TYPE...]: real file systems (ext4, xfs) on a disk that crashes.
#
# mkfs, a tree that is copied, files that come and go, and database transactions are recorded write by write
# (ci/tests/fs/), on a loop device over nbdfuse.  core/test/test_filesystem.c sends the recording through an image, crashes
# it at every flush and at FS_STATES (60) points between, with the pool and without it, and each state that is left is
# mounted (which replays the file system's log), compared with everything that had been fsynced or committed by then, and
# checked with e2fsck -fn or xfs_repair -n.
#
# FS_CHECKS (400): about so many states of each type are mounted and checked; all are compared with the recording.
# FS_SEED: of the workload and the crashes.  Two recordings are never the same, so that of a failure is kept, with the state
# that failed and the command that replays it, in O/filesystems-failed/TYPE.
# Needs root (mount, loop devices, a mount namespace of its own).  O is the build folder.
# Last line: `filesystems: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
export TEST_SEED=${FS_SEED:-${TEST_SEED:-1}} FS_STATES=${FS_STATES:-60} FS_CHECKS=${FS_CHECKS:-400}
types=${*:-ext4 xfs}
test=$(cd "$O" && pwd)/test/test_filesystem

skip() { echo "filesystems.sh: $*"; echo "filesystems: 0 passed, 0 failed, $(echo "$types" | wc -w) skipped"; exit 0; }
for c in nbdkit nbdfuse losetup mkfs.ext4 mkfs.xfs e2fsck xfs_repair; do
	PATH=$PATH:/sbin:/usr/sbin command -v $c > /dev/null || skip "no $c (ci/setup test)"
done
export PATH=$PATH:/sbin:/usr/sbin
[ "$(id -u)" = 0 ] || skip "only root can mount"
[ -e /dev/fuse ] && [ -e /dev/loop-control ] || skip "no /dev/fuse or no loop devices here"
# Who makes a mount namespace meanwhile (`ip netns exec` does) gets a copy of every mount it can see, and keeps that file system
# alive after umount.  Ours nobody sees.
# In a chroot / is no mount point that could be made private; then the folder of this test is made one.
if [ -z "${FS_NAMESPACE:-}" ]; then
	if unshare -m true 2> /dev/null; then FS_NAMESPACE=private exec unshare -m ci/tests/filesystems.sh "$@"; fi
	unshare -m --propagation unchanged true 2> /dev/null || skip "no mount namespaces here"
	FS_NAMESPACE=unchanged exec unshare -m --propagation unchanged ci/tests/filesystems.sh "$@"
fi
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-fs-XXXXXX") || exit 1

descendants() { local p; for p in $(pgrep -P "$1"); do echo "$p"; descendants "$p"; done; }
# What this run started, mounted and attached goes, whatever happens.
finish() {
	local m
	exec 2> /dev/null
	# shellcheck disable=SC2046 # pids
	[ -z "$(jobs -p)" ] || kill -KILL $(descendants $$)
	wait
	for m in $(awk -v t="$tmp/" 'index($2, t) == 1 { print $2 }' /proc/mounts | tac); do umount -l "$m"; done
	for m in "$tmp"/*/loop; do [ ! -s "$m" ] || losetup -d "$(cat "$m")"; done
	[ "$FS_NAMESPACE" = private ] || umount -l "$tmp"
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM
if [ "$FS_NAMESPACE" != private ] && ! { mount --bind "$tmp" "$tmp" && mount --make-private "$tmp"; }; then skip "no private mounts here"; fi

if ! { ${CC:-cc} -O2 -shared -fPIC -D_GNU_SOURCE -o "$tmp/recorder.so" ci/tests/fs/recorder.c &&
	${CC:-cc} -O2 -D_GNU_SOURCE -Wno-format-truncation -o "$tmp/work" ci/tests/fs/work.c -lsqlite3; } > "$tmp/cc" 2>&1; then
	cat "$tmp/cc"
	skip "the recorder or the workload does not compile (ci/setup test)"
fi

# Small file systems of XFS are for tests only, says mkfs; this says that it is one.
make_fs() {
	case $1 in
	ext4) mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$2" ;;
	xfs) TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -f "$2" ;;
	esac
}

# record TYPE DIR: DIR/log and DIR/marks
record() {
	local type=$1 dir=$2 loop rc=0 n=0
	mkdir -p "$dir/mnt"
	truncate -s "$size" "$dir/disk"
	: > "$dir/log"
	: > "$dir/disk-nbd"
	nbdfuse "$dir/disk-nbd" --command nbdkit -s "$tmp/recorder.so" file="$dir/disk" log="$dir/log" > "$dir/nbd.out" 2>&1 &
	local server=$!
	until [ "$(stat -c %s "$dir/disk-nbd")" = "$size" ] || [ $n = 100 ]; do sleep 0.05; n=$((n + 1)); done
	loop=$(losetup --direct-io=on -f --show "$dir/disk-nbd") || rc=1
	if [ $rc = 0 ]; then
		echo "$loop" > "$dir/loop"
		make_fs "$type" "$loop" && stat -c %s "$dir/log" > "$dir/begin" && mount -t "$type" "$loop" "$dir/mnt" &&
			"$tmp/work" run "$dir/mnt" core "$dir/log" "$dir/marks" "$TEST_SEED" && umount "$dir/mnt" || rc=1
		losetup -d "$loop"
		rm "$dir/loop"
	fi
	for n in $(seq 100); do umount "$dir/disk-nbd" 2> /dev/null && break; sleep 0.05; done
	wait $server
	return $rc
}

# What replays the crashes of a recording; run in the folder where it is.
write_replay() { # TYPE
	local v
	echo '#!/bin/sh'
	# shellcheck disable=SC2016 # for the shell that runs it, and the one that the test starts
	echo 'cd "$(dirname "$0")" || exit 1'
	for v in TEST_SEED FS_STATES FS_CHECKS; do echo "export $v=${!v}"; done
	echo "export FS_SIZE=$size FS_BEGIN=$(cat begin)"
	# shellcheck disable=SC2016
	echo 'export FS_RECORDING=$PWD/log FS_KEEP=$PWD FS_CHECK="'"'\$PWD/work' check \\\"\\\$FS_IMAGE\\\" $1 '\$PWD/marks' \\\"\\\$FS_POS\\\""'"'
	echo "exec '$test'"
}

# keep TYPE DIR: of a failure what another look needs
keep() {
	local to=$O/filesystems-failed/$1
	rm -rf "$to"
	mkdir -p "$to" && cp "$tmp/work" "$2"/{log,marks,begin,replay,out} "$to" && { [ ! -e "$2/state" ] || cp --sparse=always "$2/state" "$to"; } &&
		echo "  kept in $to: log, marks, state; unshare -m $to/replay"
}

# one TYPE: record and replay; what to print goes to standard output
one() {
	local type=$1 dir=$tmp/$1 rc=0
	if ! record "$type" "$dir" > "$dir/out" 2>&1; then echo "  cannot record"; tail -n 20 "$dir/out" "$dir/nbd.out"; return 77; fi
	(cd "$dir" && write_replay "$type" > replay && cp "$tmp/work" . && chmod +x replay)
	TMPDIR=$dir "$dir/replay" > "$dir/out" 2>&1 || rc=1
	# Would the check notice?  The disk as it was at the end passes, and does not when another file was promised.
	if ! "$tmp/work" check "$dir/disk" "$type" "$dir/marks" 9999999999 > "$dir/last" 2>&1; then
		{ echo "ERROR: the recorded disk itself does not pass"; sed 's/^/  | /' "$dir/last"; } >> "$dir/out"; rc=1
	fi
	sed '0,/ F tree/s/\( F tree[^ ]* \)./\1x/' "$dir/marks" > "$dir/false"
	if "$tmp/work" check "$dir/disk" "$type" "$dir/false" 9999999999 > /dev/null 2>&1; then
		echo "ERROR: the check does not see a file that holds something else" >> "$dir/out"; rc=1
	fi
	grep -aE 'operations,|ERROR:' "$dir/out" | sed "s/^/$type: $(du -m "$dir/log" | cut -f 1) MiB recorded, $(wc -l < "$dir/marks") promises; /"
	[ $rc = 0 ] || { tail -n 120 "$dir/out"; keep "$type" "$dir"; }
	return $rc
}

size=$((64 << 20))
pass=0 fail=0 skipped=0
declare -A job
began=$SECONDS
for t in $types; do mkdir "$tmp/$t"; one "$t" > "$tmp/$t.said" 2>&1 & job[$t]=$!; done
for t in $types; do
	wait "${job[$t]}"
	rc=$?
	cat "$tmp/$t.said"
	case $rc in
	0) pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)" ;;
	77) skipped=$((skipped + 1)); echo "SKIPPED $t" ;;
	*) fail=$((fail + 1)); echo "FAILED  $t ($((SECONDS - began)) s); FS_SEED=$TEST_SEED ci/tests/filesystems.sh $t" ;;
	esac
done
echo "filesystems: $pass passed, $fail failed, $skipped skipped"
[ $fail = 0 ]
