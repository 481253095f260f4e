#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# fsck.sh [NAME...]: `lsvd fsck` and `lsvd dump` on images in files; without NAME: all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `fsck: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-fsck-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out vols=$tmp/vols pool=$tmp/pool pass=0 fail=0
img=file:$vols/a
export LSVD_SYSTEM_CONFIG=$tmp/system.json XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
printf '{"pool": {"path": "file:%s", "size": "64M", "segment": "1M"}}\n' "$pool" > "$LSVD_SYSTEM_CONFIG"

show() { sed 's/^/  | /' "$out" | tail -n 15; }
# exits CODE lsvd-arguments
exits() {
	local want=$1 rc=0
	shift
	"$lsvd" "$@" > "$out" 2>&1 < /dev/null || rc=$?
	[ $rc = "$want" ] || { echo "  exit code $rc, not $want: lsvd $*"; show; return 1; }
}
ok() { exits 0 "$@"; }
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }
lacks() { if grep -qE -- "$1" "$out"; then echo "  '$1' in:"; show; return 1; fi; }
# flip FILE OFFSET: another byte there
flip() {
	local b
	b=$(od -An -tu1 -j "$2" -N 1 "$1") && printf "\\x$(printf %x $((b ^ 1)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# A fresh image with 20 MiB, resized so that it has a second epoch.
image() {
	rm -rf "$vols" "$pool"
	[ -f "$tmp/raw" ] || dd if=/dev/urandom of="$tmp/raw" bs=1M count=20 status=none
	ok import --quiet "$tmp/raw" "$img" && ok resize "$img" 64M
}
first_object() { ls "$vols"/a/0* | head -n 1; }

usage_and_help() {
	ok fsck --help && has '^example: lsvd fsck ' && exits 2 fsck && exits 2 fsck --nonsense "$img" || return
	exits 2 fsck "$img" "$img" && exits 1 fsck file:"$tmp"/none/a && exits 1 fsck nonsense || return
	image && exits 1 fsck file:"$vols"/b && has "no image 'b'"
}

clean_image() {
	image && ok fsck "$img" && has 'a: clean$' && lacks 'error|warning' || return
	ok fsck --data "$img" && has '20.[0-4]. MiB checked' && ok fsck --json "$img" && has '"ok": true' && has '"findings": \[\]'
}

damaged_image() {
	local o
	image || return
	o=$(first_object)
	flip "$o" 100000
	ok fsck "$img" && exits 1 fsck --data "$img" && has "^error: a/$(basename "$o"): at 98304: 4096 bytes" || return
	flip "$o" 100
	exits 1 fsck "$img" && has 'checksum' && has '1 errors, 0 warnings' || return
	exits 1 fsck --json "$img" && has '"ok": false' && has '"code": "checksum"' || return
	rm "$o" && exits 1 fsck "$img" && has 'it is missing'
}

truncated_image() {
	image && truncate -s 5000 "$(first_object)" && exits 1 fsck "$img" && has 'it has 5000 bytes and should' || return
	truncate -s 100 "$vols/a/super" && exits 1 fsck "$img" && has 'a/super'
}

repair() {
	local before
	image || return
	before=$(cd "$vols/a" && sha256sum ./* | sha256sum)
	printf x > "$vols/a/0000000000000000.0000000000000fff"
	exits 1 fsck "$img" && has '^warning: .*nobody needs it \(1 bytes\)' || return
	[ -e "$vols/a/0000000000000000.0000000000000fff" ] && ok fsck --repair "$img" && has '(deleted)' || return
	[ "$before" = "$(cd "$vols/a" && sha256sum ./* | sha256sum)" ] && ok fsck "$img"
}

dump_of_an_image() {
	image && ok dump "$img" && has '^superblock a/super' && has '^object a/0.*3$' && lacks '!!' && has '^  clean +yes' || return
	ok dump --json --object 1 "$img" && has '"extent_list":\[\{"lba":0,"len":16384' || return
	[ "$(wc -l < "$out")" = 1 ] && ok dump --super "$img" && lacks '^object' && ok dump --checkpoint 1 "$img" && has '^range range=0' || return
	exits 1 dump --object 99 "$img" && has 'no such part' && exits 1 dump file:"$vols"/b && exits 2 dump && exits 2 dump --object x "$img" || return
	flip "$vols/a/super" 30
	exits 1 dump "$img" && has '!! checksum does not match' && has '^object a/0'
}

dump_of_files() {
	image && ok dump "$pool" && has '^pool ' && has '^segment segment=0 ' && ok dump --records --json --file "$pool" || return
	ok dump "$(first_object)" && has '^object ' && ok dump "$vols"/a/ckpt.* "$vols/a/super" && has '^checkpoint ' || return
	printf 'LSVDTRACxxxxxxxx' > "$tmp/trace"
	exits 1 dump "$tmp/trace" && has 'lsvd trace dump' && exits 1 dump "$tmp/raw" && exits 1 dump "$tmp/none" || return
	exits 2 dump --as nothing "$pool" && exits 1 dump --as object "$pool" && has '!!' && ok dump --help && has '^example: lsvd dump '
}

tests=(usage_and_help clean_image damaged_image truncated_image repair dump_of_an_image dump_of_files)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	if "$t"; then pass=$((pass + 1)); echo "ok      $t"; else fail=$((fail + 1)); echo "FAILED  $t"; fi
done
echo "fsck: $pass passed, $fail failed, 0 skipped"
[ $fail = 0 ]
