#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vmboot: a real guest boots from an LSVD image, is recorded, reorganised, and boots again from a slow store.
#
#   build     `min` (ci/guest), unless it is cached
#   boot      a clone of the imported image, by the nbdkit plugin, recorded three times at once: by the gateway, by nbdkit's log
#             filter, and from the wire; the traces must be equal, request for request
#   reorg     by that trace; the new image must equal the old one
#   boot      a clone of the new image, cold, from a store of 20 ms: GETs must be a twentieth of the imported image's,
#             what is fetched must be what is read, and the filesystem must be clean afterwards
#
# Needs root when the guest is to be built; without QEMU or nbdkit it is skipped.  O is the build folder.
# Last line: `vmboot: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
export PATH=$PATH:/sbin:/usr/sbin O
lsvd=$O/lsvd pass=0 fail=0 skip=0
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-vmboot-XXXXXX") || exit 1
export XDG_STATE_HOME=$tmp/state
store=file:$tmp/vols capture=''
finish() {
	[ -z "$capture" ] || kill "$capture" 2> /dev/null
	rm -rf --one-file-system "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

ok() { if [ "$1" = 0 ]; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "FAILED: $2"; fi; }
must() { local what=$1; shift; if "$@" > "$tmp/out" 2>&1; then pass=$((pass + 1)); else fail=$((fail + 1)); echo "FAILED: $what"; cat "$tmp/out"; fi; }
# at_most WHAT A B: A <= B, numbers
at_most() { awk -v a="$2" -v b="$3" 'BEGIN { exit !(a != "" && a + 0 <= b + 0) }'; ok $? "$1: $2 is more than $3"; }
end() { echo "vmboot: $pass passed, $fail failed, $skip skipped"; [ $fail = 0 ]; exit; }
give_up() { echo "vmboot: $*"; skip=$((skip + 1)); end; }

for c in qemu-system-x86_64 nbdkit mke2fs e2fsck perl; do
	command -v $c > /dev/null || give_up "no $c (ci/setup guest)"
done
[ -e "$O/nbdkit-lsvd-plugin.so" ] || give_up "no nbdkit plugin was built (nbdkit-plugin-dev)"
cache=${LSVD_GUEST_CACHE:-/var/cache/lsvd-guest}
if [ ! -e "$cache/min.img" ]; then
	[ "$(id -u)" = 0 ] || give_up "no guest in $cache, and only root can build it"
	command -v mmdebstrap > /dev/null || give_up "no mmdebstrap (ci/setup guest)"
	# Without packages to be had there is nothing to boot: that is no fault of what is tested.
	ci/guest build min || give_up "the guest cannot be built here"
fi

# A number of the top of a boot's JSON, and one of the image's statistics.
of() { sed -n "s/.*[{ ]\"$2\": \([0-9.]*\).*/\1/p" "$1"; }
stat_of() { sed 's/.*"lsvd": *//; s/"read_latency".*//' "$1" | tr ',{}' '\n\n\n' | sed -n "s/^ *\"$2\": *//p" | head -n 1; }

# Sorted, without times: what was asked.  Writes that must be durable at once count as writes.
requests() { "$lsvd" trace export --format csv "$1" 2> /dev/null | asked; }
asked() { awk -F, 'NR > 1 { print $3, $4, $5 }' | LC_ALL=C sort; }
same_requests() {
	cmp -s "$2" "$tmp/log.requests"; local rc=$?
	ok $rc "$1: $(wc -l < "$2") requests, nbdkit's log has $(wc -l < "$tmp/log.requests"):
$(diff "$2" "$tmp/log.requests" | head -n 10)"
}

# ---- the imported image ----

must "import" "$lsvd" import -q "$cache/min.img" "$store/base"
must "snapshot" "$lsvd" snap create -q "$store/base@1"
must "clone" "$lsvd" clone -q "$store/base@1" "$store/one"

port=$((20000 + RANDOM % 20000)) wire=''
if "$lsvd" trace capture --help > /dev/null 2>&1; then
	"$lsvd" trace capture -i lo --nbd $port --snap 256 "$tmp/wire.trace" > "$tmp/wire.out" 2>&1 &
	capture=$!
	sleep 1
	if kill -0 $capture 2> /dev/null; then wire=1; else capture=''; echo "no capture: $(tail -n 1 "$tmp/wire.out")"; fi
fi
if ! ci/guest boot "$store/one" --guest min --port $port --trace "$tmp/gateway.trace" --log "$tmp/log" --csv "$tmp/boot.csv" --poweroff --set readahead.max=0 \
	--set writer.check_ms=0 > "$tmp/one.json" 2> "$tmp/one.err"; then
	cat "$tmp/one.err"
	ok 1 "the imported image boots"
	end
fi
ok 0
cat "$tmp/one.json"
ci/guest to-csv < "$tmp/log" | asked > "$tmp/log.requests"
requests "$tmp/gateway.trace" > "$tmp/gateway.requests"
same_requests "the gateway's trace" "$tmp/gateway.requests"
if [ -n "$wire" ]; then
	kill $capture; wait $capture; capture=''
	requests "$tmp/wire.trace" > "$tmp/wire.requests"
	same_requests "the trace from the wire" "$tmp/wire.requests"
else
	echo "vmboot: no capture from the wire here; left out"
	skip=$((skip + 1))
fi

# ---- reorganised ----

# By what was asked up to the marker: the traces go on until the guest has powered off.
must "reorganise and prove" "$lsvd" reorg "$store/base" "$store/fast" --trace "$tmp/boot.csv"
must "export" "$lsvd" export -q "$store/fast" "$tmp/fast.raw"
must "the reorganised image is the guest's, byte for byte" cmp "$tmp/fast.raw" "$cache/min.img"
rm -f "$tmp/fast.raw"
must "snapshot" "$lsvd" snap create -q "$store/fast@1"
must "clone" "$lsvd" clone -q "$store/fast@1" "$store/two"
ci/guest boot "model:custom,lat=20ms,bw=1000M:$store/two" --guest min --poweroff --set readahead.max=0 --set writer.check_ms=0 \
	> "$tmp/two.json" 2> "$tmp/two.err"
ok $? "the reorganised image boots from a slow store: $(tail -n 5 "$tmp/two.err")"
cat "$tmp/two.json"
# Times depend on how busy the machine is, and are not looked at.  A guest that is slow asks for a few things that the recorded
# boot did not, a GET each; what a boot fetches at most is judged exactly by its replay (counters.sh).
at_most "GETs of the reorganised image : the imported one's" "$(stat_of "$tmp/two.json" gets)" "$(($(stat_of "$tmp/one.json" gets) / 10))"
at_most "bytes fetched : read, times 100" $((100 * $(stat_of "$tmp/two.json" get_bytes) / $(of "$tmp/two.json" read_bytes))) 130
at_most "bytes that were fetched for nothing" "$(stat_of "$tmp/two.json" prefetch_wasted_bytes)" $((1 << 20))
at_most "bytes that the guest had to wait for, times 100" $((100 * $(stat_of "$tmp/two.json" miss_bytes) / $(of "$tmp/two.json" read_bytes))) 2

# ---- afterwards ----

for c in one two; do
	must "lsvd fsck of $c" "$lsvd" fsck -q "$store/$c"
	must "export $c" "$lsvd" export -q "$store/$c" "$tmp/$c.raw"
	must "e2fsck of $c" e2fsck -fn "$tmp/$c.raw"
	rm -f "$tmp/$c.raw"
done
end
