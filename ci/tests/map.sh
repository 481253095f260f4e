#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# map.sh [NAME...]: images as block devices (`lsvd map`) under real filesystems, and for QEMU (`lsvd qemu-args`).
#
# As root, with fuse and loop devices or nbd.  Everything lives in a folder under ${TMPDIR:-/var/tmp}, which is removed at
# the end, as are the devices.  O is the build folder.
# Last line: `map: N passed, N failed, N skipped`; exit code 0 when none failed.
# needs: mounts
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$PWD/$O/lsvd
skip_all() { echo "map.sh: $*"; echo "map: 0 passed, 0 failed, 1 skipped"; exit 0; }
[ "$(id -u)" = 0 ] || skip_all "block devices need root"
[ -e "$O/nbdkit-lsvd-plugin.so" ] || skip_all "no plugin in $O (package nbdkit-plugin-dev)"
for t in nbdkit nbdinfo fio qemu-img qemu-io mkfs.ext4 mkfs.xfs; do
	command -v $t > /dev/null || skip_all "no $t (packages nbdkit libnbd-bin fio qemu-utils e2fsprogs xfsprogs)"
done
[ -e /dev/nbd0 ] || { [ -e /dev/fuse ] && [ -e /dev/loop-control ]; } || skip_all "no nbd, and not both fuse and loop devices"

# In a mount namespace of our own: one that somebody else makes meanwhile would keep copies of our mounts.
if [ -z "${LSVD_MAP_NAMESPACE:-}" ] && unshare -m true 2> /dev/null; then
	exec env LSVD_MAP_NAMESPACE=1 unshare -m --propagation private "$PWD/ci/tests/map.sh" "$@"
fi
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-map-XXXXXX") || exit 1
export LSVD_RUN_DIR=$tmp/run
fio=''
clean() {
	[ -z "$fio" ] || kill -9 "$fio" 2> /dev/null
	umount "$tmp/mnt" 2> /dev/null || umount -l "$tmp/mnt" 2> /dev/null
	timeout 60 "$lsvd" unmap --all -q > /dev/null 2>&1
	for p in $(gateways); do kill -9 "$p" 2> /dev/null; done
	rm -rf "$tmp"
}
gateways() { sed -n 's/^ *"pid": \([0-9]*\).*/\1/p' "$tmp"/run/server-*/server.json 2> /dev/null; }
trap clean EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0 skip=0
mkdir "$tmp/mnt"

has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
ok() { timeout 120 "$@" > "$out" 2>&1 || { echo "  failed: $*"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
fails() { if timeout 120 "$@" > "$out" 2>&1; then echo "  did not fail: $*"; return 1; fi; }

pool() { options=(--pool "file:$work/pool" --set pool.size=512M --set pool.segment=8M); }
image() { ok "$lsvd" create "file:$work/store/$1" --size "${2:-512M}"; }
map() { pool; ok "$lsvd" map "file:$work/store/$1" "${options[@]}" "${@:2}" && dev=$(tail -n 1 "$out") && [ -b "$dev" ]; }
unmap() { ok "$lsvd" unmap "$@"; }
nothing_left() {
	ok "$lsvd" mapped && [ ! -s "$out" ] || { echo "  still mapped:"; cat "$out"; return 1; }
	[ "$(ls "$LSVD_RUN_DIR")" = lock ] || { echo "  left: $(ls "$LSVD_RUN_DIR")"; return 1; }
	! losetup -a | grep "$work" && ! grep "$work" /proc/mounts
}

# $1: mkfs and its options, $2: fsck
filesystem() {
	image vm && map vm || return
	ok $1 "$dev" && ok mount "$dev" "$tmp/mnt" || return
	fails "$lsvd" unmap "$dev" && has "is mounted at $tmp/mnt; umount $tmp/mnt first" || return
	ok "$lsvd" mapped && has "$dev .* rw .*file:$work/store/vm" || return
	ok fio --name=v --directory="$tmp/mnt" --rw=randwrite --bsrange=512-64k --bs_unaligned=0 --size=96m --io_size=48m --ioengine=io_uring --iodepth=16 \
		--direct=1 --blockalign=4k --bs=4k --fsync=256 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --end_fsync=1 || return
	ok dd if=/dev/urandom of="$tmp/mnt/file" bs=1M count=24 && sum=$(cksum < "$tmp/mnt/file") || return
	rm "$tmp"/mnt/v.* && ok fstrim -v "$tmp/mnt" && has 'trimmed' && ok umount "$tmp/mnt" && ok $2 "$dev" && unmap "$dev" || return
	nothing_left && ok "$lsvd" fsck "file:$work/store/vm" --data && ok "$lsvd" info "file:$work/store/vm" && has 'closed +cleanly' || return
	map vm --read-only && ok $2 "$dev" && ok mount -o ro "$dev" "$tmp/mnt" && [ "$(cksum < "$tmp/mnt/file")" = "$sum" ] || return
	fails dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct || return
	ok umount "$tmp/mnt" && unmap "file:$work/store/vm" && nothing_left
}
ext4() { filesystem 'mkfs.ext4 -q -F' 'e2fsck -fn'; }
xfs() { filesystem 'mkfs.xfs -q -f' 'xfs_repair -n'; }

# The server is killed under a mounted filesystem: that is seen, cleaned up, and nothing that was synced is lost.
killed() {
	image vm && map vm && ok mkfs.ext4 -q -F "$dev" && ok mount "$dev" "$tmp/mnt" || return
	ok dd if=/dev/urandom of="$tmp/mnt/file" bs=1M count=16 conv=fsync && sum=$(cksum < "$tmp/mnt/file") || return
	fio --name=k --directory="$tmp/mnt" --rw=randwrite --bs=4k --size=32m --ioengine=io_uring --iodepth=8 --direct=1 --time_based --runtime=60 > "$work/fio" 2>&1 &
	fio=$!
	sleep 1
	kill -9 "$(gateways)" && wait $fio
	fio=''
	grep -q 'Input/output error\|Read-only' "$work/fio" || { echo "  fio saw no error"; return 1; }
	fails "$lsvd" mapped && has 'the gateway died; `lsvd unmap /dev/' && has 'umount' || return
	fails "$lsvd" mapped --json && has '"state": "the gateway died"' || return
	fails "$lsvd" map "file:$work/store/vm" "${options[@]}" && has 'was attached, and then the gateway died' || return
	fails "$lsvd" unmap "$dev" && has 'is mounted at' || return
	umount "$tmp/mnt" 2> /dev/null || ok umount -l "$tmp/mnt" || return
	unmap "$dev" && has "in the pool's journal" && nothing_left || return
	map vm && { e2fsck -fy "$dev" > "$out" 2>&1; [ $? -le 1 ]; } && ok mount "$dev" "$tmp/mnt" || return
	[ "$(cksum < "$tmp/mnt/file")" = "$sum" ] || { echo "  a synced file is lost"; return 1; }
	ok umount "$tmp/mnt" && ok e2fsck -fn "$dev" && unmap "$dev" && nothing_left
}

# Images of one pool share a gateway; a trace, statistics, a clone and a snapshot.
several() {
	local a b
	image a 64M && image b 64M && map a --trace "$work/a.trace" && a=$dev && map b && b=$dev || return
	[ "$(gateways | wc -l)" = 1 ] || { echo "  more than one gateway"; return 1; }
	ok dd if=/dev/zero of="$a" bs=64k count=8 oflag=direct && ok "$lsvd" trace stop "$a" || return
	ok "$lsvd" trace info "$work/a.trace" && has 'write' || return
	ok "$lsvd" trace start b "$work/b.trace" && ok "$lsvd" gateway status b && has 'recorded to' || return
	ok "$lsvd" gateway stats "file:$work/store/b" && has '"writes"' || return
	fails "$lsvd" map "file:$work/store/a" "${options[@]}" && has "attached already \($a\)" || return
	fails "$lsvd" map "file:$work/store/b" --pool "file:$work/pool" && has 'attached already' || return
	image c 64M && fails "$lsvd" map "file:$work/store/c" --pool "file:$work/pool" && has 'runs with other settings' || return
	fails "$lsvd" map "file:$work/store/none" "${options[@]}" && has "there is no image 'none'" || return
	unmap "$a" && ok "$lsvd" mapped && has "$b" && unmap b && nothing_left || return
	ok "$lsvd" snap create "file:$work/store/a@s" "${options[@]}" && map a --snapshot s && ok blockdev --getro "$dev" && has '^1$' || return
	unmap --all && nothing_left
}

# Only what shows the image as a file has died.
fuse_killed() {
	local pid
	image vm 64M && map vm || return
	[[ $dev == /dev/loop* ]] || return 0
	pid=$(sed -n 's/^ *"fuse_pid": \([0-9]*\).*/\1/p' "$LSVD_RUN_DIR"/map-1.json) && kill -9 "$pid" || return
	for _ in $(seq 100); do [ -e "/proc/$pid" ] || break; sleep 0.02; done
	fails dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct && fails "$lsvd" mapped && has 'nbdfuse died; `lsvd unmap /dev/' || return
	unmap "$dev" && nothing_left && ok "$lsvd" info "file:$work/store/vm" && has 'closed +cleanly'
}

# `lsvd map` is killed somewhere in the middle: what it left is seen, and cleaned up; or it is mapped, or nothing happened.
interrupted() {
	local i
	image vm 64M && pool || return
	for i in 5 20 40 60 80 120; do
		(timeout -s KILL "$(printf '0.%03d' $i)" "$lsvd" map "file:$work/store/vm" "${options[@]}"; :) > /dev/null 2>&1
		if [ -e "$LSVD_RUN_DIR/map-1.json" ]; then
			"$lsvd" mapped > "$out" 2>&1
			has 'store/vm' && ok "$lsvd" unmap "file:$work/store/vm" || return
		else
			map vm && unmap "$dev" || return
		fi
		nothing_left || return
	done
}

# QEMU needs no root: the gateway is the user's own.
ordinary_user() {
	# Of what may be in a folder that only we may enter.
	mkdir "$work/bin" && cp "$lsvd" "$(dirname "$lsvd")"/nbdkit-lsvd-plugin.so "$work/bin/" || return
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups env LSVD_RUN_DIR="$work/run" "$work/bin/lsvd") u=file:$work/store/vm
	chmod 755 "$tmp" && chown -R 65534:65534 "$work" && pool || return
	ok "${as[@]}" create "$u" --size 64M && ok "${as[@]}" qemu-args --uri "$u" "${options[@]}" || return
	ok qemu-io -f raw -c 'write -P 1 0 64k' "$(cat "$out")" && ok "${as[@]}" mapped && has '^\(QEMU\)' || return
	ok "${as[@]}" unmap "$u" && ok "${as[@]}" info "$u" && has 'closed +cleanly'
}

mistakes() {
	fails "$lsvd" unmap /dev/none && has 'is not mapped; `lsvd mapped`' || return
	fails "$lsvd" map "file:$work/store/x" --method floppy && has 'is no method' || return
	fails "$lsvd" map && fails "$lsvd" unmap || return
	chmod 755 "$tmp" && fails setpriv --reuid=65534 --clear-groups "$lsvd" map "file:$work/store/x" && has 'must be root'
}

qemu() {
	local uri
	image vm 64M && pool || return
	uri=$("$lsvd" qemu-args --uri "file:$work/store/vm" "${options[@]}") || return
	ok qemu-img info "$uri" && has 'virtual size: 64 MiB' || return
	ok qemu-io -f raw -c 'write -P 5 0 1M' -c flush -c 'discard 0 64k' -c 'read -P 0 0 64k' -c 'read -P 5 64k 64k' "$uri" || return
	ok "$lsvd" mapped && has '^\(QEMU\).*rw.*/store/vm' || return
	ok "$lsvd" qemu-args "file:$work/store/vm" "${options[@]}" --id d0 --if none && has '^-drive driver=raw,file.driver=nbd,.*file.export=vm,if=none,.*id=d0$' || return
	if command -v qemu-system-x86_64 > /dev/null; then
		ok qemu-system-x86_64 -machine q35 -accel tcg -nodefaults -display none -S -monitor stdio -serial none $(cat "$out") < <(echo 'info block'; echo quit) || return
		has 'd0.*: nbd\+unix|d0.*: json:|nbd'  || return
	fi
	fails "$lsvd" qemu-args "file:$work/store/none" "${options[@]}" && has "there is no image 'none'" || return
	ok "$lsvd" qemu-args --socket /x/y --export e,f "file:$work/store/vm" && has 'path=/x/y,file.export=e,,f,' || return
	unmap "file:$work/store/vm" && nothing_left
}

tests=(ext4 xfs killed fuse_killed interrupted several ordinary_user mistakes qemu)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	work=$tmp/$t
	mkdir -p "$work/store"
	began=$SECONDS
	if "$t"; then pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)"
	else fail=$((fail + 1)); echo "FAILED  $t"; sed 's/^/  log | /' "$tmp"/run/server-*/log 2> /dev/null | tail -n 5
	fi
	umount "$tmp/mnt" 2> /dev/null || umount -l "$tmp/mnt" 2> /dev/null
	timeout 60 "$lsvd" unmap --all -q > /dev/null 2>&1
	rm -rf "$work"
done
echo "map: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
