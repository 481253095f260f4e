#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# gateway.sh [NAME...]: the nbdkit plugin under the nbdkit of this machine; without NAME: all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `gateway: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$PWD/$O/lsvd plugin=$PWD/$O/nbdkit-lsvd-plugin.so
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-gw-XXXXXX") || exit 1
server=''
trap '[ -z "$server" ] || kill -9 "$server" 2> /dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0 skip=0
unset LSVD_CONTROL

for t in nbdkit nbdinfo nbdcopy qemu-io fio; do
	command -v $t > /dev/null && [ -e "$plugin" ] && continue
	echo "gateway.sh: no $t (packages nbdkit libnbd-bin qemu-utils fio), or no plugin in $O (package nbdkit-plugin-dev)"
	echo "gateway: 0 passed, 0 failed, 1 skipped"
	exit 0
done

has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
ok() { timeout 60 "$@" > "$out" 2>&1 || { echo "  failed: $*"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
fails() { if timeout 60 "$@" > "$out" 2>&1; then echo "  did not fail: $*"; return 1; fi; }
is() { [ "$1" = "$2" ] || { echo "  '$1' is not '$2'"; return 1; }; }

image() { ok "$lsvd" create "file:$work/store/$1" --size "${2:-64M}"; }
pool=(pool.size=256M pool.segment=4M)
# serve [OPTION...] PARAMETER...: in the background, until it answers.
serve() {
	local opts=()
	rm -f "$work/nbd"
	while [[ ${1:-} == -* ]]; do opts+=("$1"); shift; done
	nbdkit -f -U "$work/nbd" "${opts[@]}" "$plugin" pool="file:$work/pool" "${pool[@]}" control="$work/ctl" "$@" 2> "$work/log" &
	server=$!
	for _ in $(seq 500); do
		! timeout 5 "$lsvd" gateway status -c "$work/ctl" > /dev/null 2>&1 || return 0
		kill -0 "$server" 2> /dev/null || break
		sleep 0.02
	done
	echo "  the server does not answer:"; sed 's/^/  | /' "$work/log"
	return 1
}
end() { kill "-${1:-TERM}" "$server"; wait "$server" 2> /dev/null; local rc=$?; server=''; return $rc; }
uri() { echo "nbd+unix:///${1:-}?socket=$work/nbd"; }
io() { local u; u=$(uri "$1"); shift; local c=(); for x; do c+=(-c "$x"); done; ok qemu-io -t writeback -f raw "${c[@]}" "$u" && ! grep -q 'verification failed\|failed:' "$out"; }
gw() { ok "$lsvd" gateway "$@" -c "$work/ctl"; }
# What an ended connection leaves takes a moment.
soon() {
	for _ in $(seq 100); do
		gw status && grep -qE -- "$1" "$out" && return
		sleep 0.02
	done
	has "$1"
}
control() { ok "$lsvd" trace "$@" -c "$work/ctl"; }

facts() {
	image vm1 && serve "file:$work/store/vm1" || return
	ok nbdinfo "$(uri)" || return
	for f in 'export-size: 67108864' 'can_multi_conn: true' 'can_fua: true' 'can_trim: true' 'can_zero: true' 'can_fast_zero: true' \
		'can_flush: true' 'can_cache: true' 'is_read_only: false' 'is_rotational: false' 'base:allocation' \
		'block_size_minimum: 512' 'block_size_preferred: 4096' 'description: LSVD image file:.*/vm1'; do has "$f" || return; done
	ok nbdinfo --list "$(uri)" && has 'export="vm1"' && end
}

verify() {
	image vm1 && serve "file:$work/store/vm1" || return
	ok fio --name=v --ioengine=nbd --uri="$(uri)" --rw=randwrite --bsrange=512-128k --bs_unaligned=0 --blockalign=512 --iodepth=16 \
		--size=32m --verify=crc32c --verify_fatal=1 --verify_state_save=0 --fsync=64 || return
	ok nbdcopy "$(uri)" "$work/raw" && end || return
	ok "$lsvd" export "file:$work/store/vm1" "$work/exported" && ok cmp "$work/raw" "$work/exported"
}

exports() {
	image a && image b 32M && image c || return
	serve export=first="file:$work/store/b" "store=file:$work/store" || return
	ok nbdinfo --size "$(uri)" && has '^33554432$' || return
	ok nbdinfo --list "$(uri)" && for e in first a b c; do has "export=\"$e\"" || return; done
	ok nbdinfo --size "$(uri a)" && has '^67108864$' || return
	fails nbdinfo "$(uri none)" && grep -q "there is no image 'none'" "$work/log" || return
	fails nbdinfo "$(uri ../store/a)" && grep -q "names no image" "$work/log" && end
}

# One flush, one FUA, trims and zeroes reach the image as what they are; and the map tells.
requests() {
	image vm1 && serve "file:$work/store/vm1" trace="$work/%n.trace" || return
	io vm1 'write -P 1 0 1M' 'write -f -P 2 1M 64k' 'discard 64k 128k' 'write -z 512k 64k' 'write -z -u 640k 64k' flush \
		'read -P 0 64k 128k' 'read -P 1 0 64k' 'read -P 0 512k 64k' 'read -P 1 576k 64k' 'read -P 0 640k 64k' 'read -P 1 704k 64k' 'read -P 2 1M 64k' || return
	ok nbdinfo --map "$(uri)" && [ -e "$work/vm1.trace.2" ] || return
	is "$(awk '{ print $1, $2, $3 }' "$out" | tr '\n' ';')" \
		'0 65536 0;65536 131072 3;196608 327680 0;524288 65536 3;589824 65536 0;655360 65536 3;720896 393216 0;1114112 65994752 3;' || return
	end && ok "$lsvd" trace dump "$work/vm1.trace" || return
	is "$(grep -c ' fua$' "$out")" 1 && has ' flush ' || return
	has 'discard.* 65536' && has 'write.zeroes.* 524288'
}

unaligned_clients_are_told() {
	image vm1 && serve --filter=blocksize-policy "file:$work/store/vm1" blocksize-minimum=1 || return
	fio --name=u --ioengine=nbd --uri="$(uri)" --rw=write --bs=1000 --number_ios=1 > "$out" 2>&1
	grep -q 'not of whole sectors.*--filter=blocksize' "$work/log" && end || return
	serve --filter=blocksize "file:$work/store/vm1" minblock=512 || return
	ok fio --name=u --ioengine=nbd --uri="$(uri)" --rw=randwrite --bs=1000 --blockalign=1000 --number_ios=50 --size=1m --verify=crc32c --verify_fatal=1 --verify_state_save=0 && end
}

filters() {
	image vm1 && serve --filter=log --filter=delay --filter=cow "file:$work/store/vm1" rdelay=1ms logfile="$work/requests" || return
	io vm1 'write -P 7 0 64k' 'read -P 7 0 64k' || return
	grep -q 'Write .*offset=0x0 count=0x10000' "$work/requests" && end || return
	serve "file:$work/store/vm1" && io vm1 'read -P 0 0 64k' && end
}

tls() {
	image vm1 && echo "alice:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" > "$work/psk" || return
	serve --tls=require --tls-psk="$work/psk" "file:$work/store/vm1" || return
	fails nbdinfo "$(uri)" || return
	ok nbdinfo "nbds+unix://alice@/vm1?socket=$work/nbd&tls-psk-file=$work/psk" && has 'with TLS' && end
}

run_and_names_of_a_directory() {
	image vm1 || return
	(cd "$work" && ok nbdkit -U - "$plugin" file:store/vm1 pool=file:pool "${pool[@]}" --run 'nbdinfo --size "$uri"') && has '^67108864$' || return
	# In the background, where it leaves its directory.
	(cd "$work" && ok nbdkit -P "$work/pid" -U "$work/nbd" "$plugin" file:store/vm1 pool=file:pool "${pool[@]}" control=ctl) || return
	io vm1 'write -P 9 0 64k' || return
	kill "$(cat "$work/pid")" && for _ in $(seq 200); do [ -e "/proc/$(cat "$work/pid")" ] || break; sleep 0.02; done
	ok "$lsvd" info "file:$work/store/vm1" && has 'closed +cleanly'
}

sum() { (cd "$work/store" && find . -type f ! -name '*lock*' | LC_ALL=C sort | xargs cat | cksum); }

read_only() {
	local before
	image vm1 && serve "file:$work/store/vm1" && io vm1 'write -P 3 0 1M' && end || return
	ok "$lsvd" snap create "file:$work/store/vm1@s" --pool "file:$work/pool" --set pool.size=256M --set pool.segment=4M || return
	before=$(sum)
	serve export=x="file:$work/store/vm1" readonly=true export=y="file:$work/store/vm1" snapshot=s "store=file:$work/store" || return
	for e in x y vm1@s; do
		ok nbdinfo "$(uri $e)" && has 'is_read_only: true' || return
		ok qemu-io -r -f raw -c 'read -P 3 0 1M' "$(uri $e)" || return
		fails qemu-io -f raw -c 'write 0 64k' "$(uri $e)" || return
	done
	end && is "$(sum)" "$before" || return
	serve -r "file:$work/store/vm1" && ok nbdinfo "$(uri)" && has 'is_read_only: true' && end && is "$(sum)" "$before"
}

number() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$out" | head -n 1; }

# What one clone fetched serves the next.
clones_share_the_cache() {
	image base && serve "file:$work/store/base" && io base 'write -P 5 0 16M' && end || return
	for c in c1 c2; do ok "$lsvd" clone "file:$work/store/base" "file:$work/store/$c" || return; done
	rm "$work/pool"
	serve "store=file:$work/store" keep-open=true || return
	io c1 'read -P 5 0 16M' && gw stats c1 || return
	[ "$(number miss_bytes)" -gt 0 ] || { echo "  nothing was fetched"; return 1; }
	io c2 'read -P 5 0 16M' && gw stats c2 || return
	is "$(number miss_bytes)" 0 && end
}

images_open_and_close() {
	image a && image b && serve export=a="file:$work/store/a" export=b="file:$work/store/b" keep-open=true || return
	gw status && has '^a +closed .*0 connections' && has '^b +closed' || return
	io a 'write 0 64k' && io b 'write 0 64k' && soon '^b +open +rw +0 connections' && soon '^a +closed' || return
	ok "$lsvd" info "file:$work/store/a" && has 'closed +cleanly' && end || return
	ok "$lsvd" info "file:$work/store/b" && has 'closed +cleanly'
}

traces() {
	image vm1 && serve "file:$work/store/vm1" keep-open=true || return
	fails "$lsvd" trace start -c "$work/ctl" vm1 "$work/t1" && has 'nobody is connected' || return
	io vm1 'write 0 64k' && control start vm1 "$work/t1" || return
	gw status && has 'recorded to .*/t1' || return
	io vm1 'write 64k 64k' 'read 0 4k' && control stop vm1 || return
	io vm1 'write 128k 64k' || return
	ok "$lsvd" trace dump "$work/t1" && has 'write.* 65536' && has 'read.* 4096' || return
	! grep -q 131072 "$out" || { echo "  recorded after the end"; return 1; }
	fails "$lsvd" trace stop -c "$work/ctl" vm1 && has 'not being recorded' || return
	fails "$lsvd" trace stop -c "$work/nothing" vm1 && has 'no gateway answers' || return
	fails "$lsvd" trace start -c "$work/ctl" none "$work/t2" && has "there is no export 'none'" && end
}

# All that was acknowledged is there after a kill, flushed or not.
killed() {
	image vm1 && serve "file:$work/store/vm1" keep-open=true || return
	io vm1 'write -P 8 0 24M' && end KILL
	ok "$lsvd" info "file:$work/store/vm1" && has 'not closed|NOT|no,' > /dev/null
	serve "file:$work/store/vm1" && io vm1 'read -P 8 0 24M' && end
}

# SIGTERM in the middle of a client's work: it gets errors, and what it had acknowledged is in the store, closed.
ended() {
	image vm1 && serve "file:$work/store/vm1" || return
	fio --name=e --ioengine=nbd --uri="$(uri)" --rw=write --bs=4k --iodepth=8 --size=32m --time_based --runtime=30 \
		--verify=pattern --verify_pattern=0x5a --do_verify=0 --verify_state_save=0 > "$work/fio" 2>&1 &
	for _ in $(seq 250); do
		gw stats vm1 2> /dev/null > /dev/null && [ "$(number writes)" -gt 100 ] && break
		sleep 0.02
	done
	end TERM || { echo "  exit code $?"; return 1; }
	kill $! 2> /dev/null; wait $! 2> /dev/null
	ok "$lsvd" info "file:$work/store/vm1" && has 'closed +cleanly' && rm "$work/pool" || return
	serve "file:$work/store/vm1" && io vm1 'read -P 0x5a 0 4k' && end
}

mistakes() {
	image vm1 || return
	local u=file:$work/store/vm1 p="pool=file:$work/pool"
	fails nbdkit -f -U - "$plugin" "$p" --run true && has 'what is to be served' || return
	fails nbdkit -f -U - "$plugin" "$u" pool.sice=1G --run true && has "did you mean 'pool.size'" || return
	fails nbdkit -f -U - "$plugin" "$u" set=pool.size --run true && has 'is not KEY=VALUE' || return
	fails nbdkit -f -U - "$plugin" "$u" readonly=perhaps --run true && has 'neither true nor false' || return
	fails nbdkit -f -U - "$plugin" export=x --run true && has 'is not NAME=IMAGE' || return
	fails nbdkit -f -U - "$plugin" "$u" "$u" --run true && has "there is an export 'vm1' already" || return
	fails nbdkit -f -U - "$plugin" trace=x store=file:/x --run true && has '%n' || return
	serve "$u" && fails nbdkit -f -U - "$plugin" "$u" "$p" --run 'sleep 5' && has 'in use by another process' && end
}

tests=(facts verify exports requests unaligned_clients_are_told filters tls run_and_names_of_a_directory read_only clones_share_the_cache
	images_open_and_close traces killed ended mistakes)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	work=$tmp/$t
	mkdir -p "$work/store"
	began=$SECONDS
	if "$t"; then pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)"
	else fail=$((fail + 1)); echo "FAILED  $t"; sed 's/^/  log | /' "$work/log" 2> /dev/null | tail -n 5
	fi
	[ -z "$server" ] || { kill -9 "$server" 2> /dev/null; wait "$server" 2> /dev/null; server=''; }
	rm -rf "$work"
done
echo "gateway: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
