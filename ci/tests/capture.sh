#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# capture.sh [NAME...]: `lsvd trace capture` beside what really happened: nbdkit's log of its requests, the requests made of a real
# tgtd, a guest's own block trace; without NAME: all tests.
#
# Live captures need root (or CAP_NET_RAW); servers listen on loopback only.  O is the build folder.  Everything lives in a folder under
# ${TMPDIR:-/var/tmp} that is removed at the end.
# Last line: `capture: N passed, N failed, N skipped`; exit code 0 when none failed.
# needs: mounts tracefs
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-capture-XXXXXX") || exit 1
export PATH=$PATH:/usr/sbin:/sbin
pids='' loop='' pass=0 fail=0 skip=0
port=$((20000 + $$ % 20000)) iscsi_port=$((40001 + $$ % 20000)) control=$((1000 + $$ % 30000))

forget() { pids=$(printf '%s\n' $pids | grep -vx "$1") || :; }
clean_up() {
	[ -z "$pids" ] || kill -KILL $pids 2> /dev/null
	[ -z "$loop" ] || losetup -d "$loop" 2> /dev/null
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

reason=''
needs() { # COMMAND...
	local c
	for c; do command -v "$c" > /dev/null || { reason="no $c (ci/setup test)"; return 1; }; done
}
needs_live() {
	[ "$(id -u)" = 0 ] || { reason='only root can capture'; return 1; }
	case $("$lsvd" trace capture -r /dev/null "$tmp/x" 2>&1) in
	*'built without libpcap'*) reason='built without libpcap-dev (ci/setup build)'; return 1 ;;
	esac
}
wait_for() { # FILE TEXT
	local n=0
	until grep -q "$2" "$1" 2> /dev/null; do
		n=$((n + 1))
		[ $n -lt 200 ] || { echo "  no '$2' in $1:"; tail -n 5 "$1"; return 1; }
		sleep 0.05
	done
}
same() { # WHAT FILE FILE
	cmp -s "$2" "$3" && [ -s "$2" ] && return
	echo "  $1 differ: $(wc -l < "$2") and $(wc -l < "$3") lines"
	diff "$2" "$3" | head -n 10
	return 1
}

# capture NAME OPTION...: live, in the background, to $tmp/NAME.trace; stop_capture NAME
capture() {
	local name=$1
	shift
	"$lsvd" trace capture -i lo --json "$@" "$tmp/$name.trace" > "$tmp/$name.json" 2> "$tmp/$name.err" &
	capturer=$!
	pids="$pids $capturer"
	wait_for "$tmp/$name.err" 'Ctrl-C ends'
}
stop_capture() {
	kill -INT "$capturer"
	wait "$capturer" || { echo "  the capture failed: $(cat "$tmp/$1.err")"; return 1; }
	forget "$capturer"
}
# count NAME FIELD: of the sum
count() { sed -n "s/.*\"$2\": \([0-9]*\),*/\1/p" "$tmp/$1.json"; }
clean_sum() { # NAME: nothing was lost
	local f
	for f in failed unanswered stray_answers headers_cut ranges_cut lost_place gaps kernel_dropped; do
		[ "$(count "$1" $f)" = 0 ] || { echo "  $f: $(count "$1" $f)"; return 1; }
	done
}
requests() { "$lsvd" trace export "$tmp/$1.trace" | tail -n +2 | cut -d, -f3-5; }
in_any_order() { LC_ALL=C sort "$1" > "$1.sorted" && mv "$1.sorted" "$1"; }

start_nbdkit() {
	rm -f "$tmp/nbdkit.log" "$tmp/nbdkit.pid"
	nbdkit -f -P "$tmp/nbdkit.pid" -i 127.0.0.1 -p "$port" --filter=log memory 64M logfile="$tmp/nbdkit.log" "$@" 2> "$tmp/nbdkit.err" &
	server=$!
	pids="$pids $server"
	wait_for "$tmp/nbdkit.pid" .
}
stop_nbdkit() {
	kill "$server"
	wait "$server"
	forget "$server"
}
nbdkit_requests() { ci/guest to-csv < "$tmp/nbdkit.log" | tail -n +2 | cut -d, -f3-5; }

# Reads, writes, with FUA, flushes, discards and zeroes, one by one and several at once.
io_commands() {
	local i
	for i in 0 1 2 3 4 5 6 7; do
		echo "read $((i * 7 % 5 * 65536 + i * 4096)) $((4096 * (i + 1)))"
		echo "write -P $i $((i * 131072)) $((512 * (i + 1)))"
	done
	echo 'write -f 1048576 65536'
	echo 'flush'
	echo 'discard 2097152 1048576'
	echo 'write -z 4194304 131072'
	echo 'discard 33554432 65536'
	for i in 0 1 2 3 4 5 6 7; do
		echo "aio_read $((8388608 + i * 1048576)) 1048576"
		echo "aio_write $((20971520 + i * 1048576)) 262144"
	done
	echo 'aio_flush'
	echo 'flush'
}

# ---- tests: 0 passed, 77 skipped because of $reason ----

nbd_against_nbdkits_log() {
	needs nbdkit qemu-io nbdcopy && needs_live || return 77
	start_nbdkit && capture nbd --nbd "$port" || return 1
	io_commands | qemu-io -f raw "nbd://127.0.0.1:$port" > "$tmp/qemu-io.out" 2>&1 || { cat "$tmp/qemu-io.out"; return 1; }
	nbdcopy --connections=4 --requests=16 "nbd://127.0.0.1:$port" null: || return 1
	head -c 16M /dev/urandom > "$tmp/data"
	nbdcopy --connections=4 --requests=16 --flush "$tmp/data" "nbd://127.0.0.1:$port" || return 1
	stop_nbdkit
	stop_capture nbd || return 1
	requests nbd > "$tmp/wire"
	nbdkit_requests > "$tmp/log"
	in_any_order "$tmp/wire" && in_any_order "$tmp/log"
	same "the wire and nbdkit's log" "$tmp/wire" "$tmp/log" && clean_sum nbd || return 1
	[ "$(count nbd size_bytes)" = 67108864 ] && [ "$(count nbd connections)" -ge 5 ] || { cat "$tmp/nbd.json"; return 1; }
}

# skip_packets N: of a pcap file without its head, little endian
skip_packets() {
	perl -e 'local $/; my $d = <STDIN>; my $at = 0; for (1 .. shift) { $at += 16 + unpack("V", substr($d, $at + 8, 4)) } print substr($d, $at)' "$1"
}
nbd_from_a_file_of_tcpdump() {
	needs nbdkit qemu-io tcpdump perl && needs_live || return 77
	start_nbdkit || return 1
	tcpdump -Z root -i lo --immediate-mode -s 128 -U -w "$tmp/pcap" "tcp port $port" 2> "$tmp/tcpdump.err" &
	local dumper=$!
	pids="$pids $dumper"
	wait_for "$tmp/tcpdump.err" 'listening on' || return 1
	io_commands | grep -v aio | qemu-io -f raw "nbd://127.0.0.1:$port" > /dev/null || return 1
	stop_nbdkit
	sleep 0.5
	kill -INT $dumper
	wait $dumper
	forget $dumper
	nbdkit_requests > "$tmp/log"
	"$lsvd" trace capture -r "$tmp/pcap" --nbd "$port" --json "$tmp/file.trace" > "$tmp/file.json" || return 1
	requests file > "$tmp/wire"
	same "128 bytes of each packet and nbdkit's log" "$tmp/wire" "$tmp/log" && clean_sum file || return 1
	# cut off within a packet: what is before is taken, and it is said
	head -c -30 "$tmp/pcap" > "$tmp/torn"
	"$lsvd" trace capture -r "$tmp/torn" --nbd "$port" --json "$tmp/torn.trace" > "$tmp/torn.json" 2> "$tmp/torn.err" || return 1
	grep -q 'damaged or cut off' "$tmp/torn.err" && [ "$(count torn requests)" -gt 10 ] || { cat "$tmp/torn.err"; return 1; }
	# without its first 40 packets: it begins in the middle, and the requests after that are the same
	tcpdump -Z root -n -r "$tmp/pcap" --print -w "$tmp/late" "tcp[13] & 2 = 0 and greater 0" > /dev/null 2>&1 &&
		{ head -c 24 "$tmp/late"; tail -c +25 "$tmp/late" | skip_packets 40; } > "$tmp/late.pcap"
	"$lsvd" trace capture -r "$tmp/late.pcap" --nbd "$port" --json "$tmp/late.trace" > "$tmp/late.json" || return 1
	requests late > "$tmp/wire"
	tail -n "$(wc -l < "$tmp/wire")" "$tmp/log" > "$tmp/want"
	[ "$(count late midstream)" = 1 ] && same "the rest of a connection and nbdkit's log" "$tmp/wire" "$tmp/want"
}

tgt() { tgtadm -C "$control" --lld iscsi "$@"; }
start_tgtd() {
	truncate -s 64M "$tmp/lun1" "$tmp/lun2"
	tgtd -f -C "$control" --iscsi "portal=127.0.0.1:$iscsi_port" > "$tmp/tgtd.log" 2>&1 &
	server=$!
	pids="$pids $server"
	local n=0 i
	until tgt --op new --mode target --tid 1 -T iqn.2026-01.test:d 2> /dev/null; do
		n=$((n + 1))
		[ $n -lt 100 ] && kill -0 $server 2> /dev/null || { reason="tgtd does not start here: $(tail -n 1 "$tmp/tgtd.log")"; return 77; }
		sleep 0.05
	done
	for i in 1 2; do tgt --op new --mode logicalunit --tid 1 --lun $i -b "$tmp/lun$i" || return 1; done
	tgt --op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1 || return 1
	tgt --op bind --mode target --tid 1 -I ALL
}
stop_tgtd() {
	kill -KILL "$server"
	wait "$server" 2> /dev/null
	forget "$server"
}

# What qemu-io was told is what the target got.
expected() {
	io_commands | awk '
		{ for (n = 2; $n ~ /^-/; n++) if ($n == "-P") n++ }
		/read/ { print "R," $n "," $(n + 1) }
		/write/ && !/-z/ { print "W," $n "," $(n + 1) }
		/write -z/ { print "Z," $n "," $(n + 1) }
		/discard/ { print "T," $n "," $(n + 1) }
		/flush/ { print "F,0,0" }'
}

iscsi_against_tgtd() {
	needs tgtd tgtadm qemu-io iscsi-perf tcpdump && needs_live || return 77
	local url=iscsi://127.0.0.1:$iscsi_port/iqn.2026-01.test:d rc
	start_tgtd
	rc=$?
	[ $rc = 0 ] || return $rc
	qemu-io -f raw -c 'read 0 512' "$url/1" > "$tmp/qemu-io.out" 2>&1 || {
		case $(cat "$tmp/qemu-io.out") in
		*nknown\ protocol*) stop_tgtd; reason='qemu-io has no iscsi (package qemu-block-extra)'; return 77 ;;
		esac
		cat "$tmp/qemu-io.out"
		return 1
	}
	capture iscsi --iscsi "$iscsi_port" --lun 1 || return 1
	io_commands | qemu-io -f raw "$url/1" > "$tmp/qemu-io.out" 2>&1 || { cat "$tmp/qemu-io.out"; return 1; }
	stop_capture iscsi || return 1
	requests iscsi | in_groups > "$tmp/wire"
	expected | in_groups > "$tmp/want"
	same "the wire and what was asked of tgtd" "$tmp/wire" "$tmp/want" && clean_sum iscsi || return 1
	[ "$(count iscsi size_bytes)" = 67108864 ] || { cat "$tmp/iscsi.json"; return 1; }

	# many at once, to one unit, and some to the other: it is said that there are two
	capture two --iscsi "$iscsi_port" || return 1
	iscsi-perf -m 32 -b 16 -t 1 -r "$url/1" > "$tmp/perf" 2>&1 || { cat "$tmp/perf"; return 1; }
	qemu-io -f raw -c 'write 0 4096' -c 'flush' "$url/2" > /dev/null || return 1
	stop_capture two || return 1
	header_digests || return 1
	stop_tgtd
	requests two | LC_ALL=C sort | awk -F, '$1 != "R" || $3 == 8192 { n[$1 "," $3]++ } END { for (k in n) print k, (n[k] > 1) }' | LC_ALL=C sort > "$tmp/kinds"
	printf '%s\n' 'F,0 0' 'R,8192 1' 'W,4096 0' > "$tmp/want"
	same "kinds of requests of iscsi-perf" "$tmp/kinds" "$tmp/want" || return 1
	clean_sum two && [ "$(count two requests)" -gt 100 ] || { cat "$tmp/two.json"; return 1; }
	grep -q '2 units were asked' "$tmp/two.err" || { echo "  it is not said that there are two units"; return 1; }
}
# The same requests with four bytes more in every header: nobody tells the capture.
header_digests() {
	local target=driver=iscsi,transport=tcp,portal=127.0.0.1:$iscsi_port,target=iqn.2026-01.test:d,lun=1
	tgt --op update --mode target --tid 1 --name HeaderDigest --value CRC32C || return 1
	tcpdump -Z root -i lo --immediate-mode -s 0 -A "tcp port $iscsi_port" > "$tmp/login" 2> "$tmp/tcpdump.err" &
	local dumper=$!
	pids="$pids $dumper"
	wait_for "$tmp/tcpdump.err" 'listening on' && capture digests --iscsi "$iscsi_port" || return 1
	io_commands | qemu-io --image-opts "$target,header-digest=crc32c" > "$tmp/qemu-io.out" 2>&1 || { cat "$tmp/qemu-io.out"; return 1; }
	stop_capture digests || return 1
	kill -INT $dumper
	wait $dumper
	forget $dumper
	[ "$(grep -ac 'HeaderDigest=CRC32C' "$tmp/login")" -ge 2 ] || { echo "  they do not agree on digests"; return 1; }
	requests digests | in_groups > "$tmp/wire"
	expected | in_groups > "$tmp/want"
	same "the wire and what was asked, with digests" "$tmp/wire" "$tmp/want" && clean_sum digests
}
# A client may cut a large request up: neighbours of one kind are put together again.
in_groups() {
	LC_ALL=C sort -t, -k1,1 -k2,2n -k3,3n | awk -F, '
		$1 != "F" && $1 == op && $2 == end { len += $3; end += $3; next }
		NR > 1 { print op "," at "," len }
		{ op = $1; at = $2; len = $3; end = $2 + $3 }
		END { print op "," at "," len }'
}

nvme_from_a_recording() {
	needs zcat || return 77
	needs_live || return 77
	zcat trace/test/data/nvme.pcap.gz | "$lsvd" trace capture -r - --nvme 44420 --json "$tmp/nvme.trace" > "$tmp/nvme.json" || return 1
	requests nvme | tail -n +2 > "$tmp/wire" # the kernel's look at the partition table is before its trace
	tail -n +2 trace/test/data/nvme.csv | cut -d, -f1-3 > "$tmp/want"
	in_any_order "$tmp/wire" && in_any_order "$tmp/want"
	same "the wire and the guest's blk tracer" "$tmp/wire" "$tmp/want" && clean_sum nvme
}

block_device_by_the_kernel() {
	local propagation=''
	needs losetup dd unshare blkdiscard || return 77
	[ "$(id -u)" = 0 ] || { reason='only root can use the tracer'; return 77; }
	truncate -s 64M "$tmp/disk"
	loop=$(losetup --direct-io=on -f --show "$tmp/disk" 2> /dev/null) || { reason='no loop devices here'; return 77; }
	unshare -m true 2> /dev/null || propagation='--propagation unchanged' # in a chroot
	unshare -m $propagation sh -c '
		[ -e /sys/kernel/tracing/current_tracer ] || mount -t tracefs tracefs /sys/kernel/tracing || exit 77
		exec "$0" trace capture --block "$1" --json "$2/block.trace" > "$2/block.json" 2> "$2/block.err"' "$lsvd" "$loop" "$tmp" &
	local tracer=$! n=0
	pids="$pids $tracer"
	until grep -q 'Ctrl-C ends' "$tmp/block.err" 2> /dev/null; do
		n=$((n + 1))
		if ! kill -0 $tracer 2> /dev/null || [ $n -gt 200 ]; then
			reason="no blk tracer here: $(tail -n 1 "$tmp/block.err" 2> /dev/null)"
			losetup -d "$loop"; loop=''
			return 77
		fi
		sleep 0.05
	done
	dd if="$loop" of=/dev/null bs=4k skip=100 count=20 iflag=direct 2> /dev/null
	dd if=/dev/zero of="$loop" bs=64k seek=10 count=5 oflag=direct conv=notrunc 2> /dev/null
	blkdiscard -o 8388608 -l 1048576 "$loop"
	kill -INT $tracer
	wait $tracer || { cat "$tmp/block.err"; return 1; }
	forget $tracer
	losetup -d "$loop"
	loop=''
	{
		for n in $(seq 20); do echo "R,$(((99 + n) * 4096)),4096"; done
		for n in $(seq 5); do echo "W,$(((9 + n) * 65536)),65536"; done
		echo 'T,8388608,1048576'
	} > "$tmp/want"
	# what udev and the kernel look at by themselves is none of ours
	requests block | grep -xF -f "$tmp/want" > "$tmp/wire"
	same "the tracer and what was asked of the device" "$tmp/wire" "$tmp/want" || return 1
	[ "$(count block size_bytes)" = 67108864 ] && [ "$(count block lost_events)" = 0 ] || { cat "$tmp/block.json"; return 1; }
}

# The guest's events as blktrace would write them, a file for each processor, and what blkparse makes of these.
events_as_blkparse_has_them() {
	needs blkparse perl zcat || return 77
	zcat trace/test/data/nvme.blk.gz | (cd "$tmp" && perl -e '
		local $/; my $d = <STDIN>; my %f;
		for (my $at = index($d, "\x07tae"); $at + 48 <= length $d; ) {
			my $n = 48 + unpack("v", substr($d, $at + 46, 2)), my $cpu = unpack("V", substr($d, $at + 40, 4));
			$f{$cpu} .= substr($d, $at, $n); $at += $n
		}
		for (0 .. 1) { open my $o, ">", "y.blktrace.$_"; print $o $f{$_} // "" }')
	(cd "$tmp" && blkparse -i y > y.txt && blkparse -i y -q -O -d y.bin) > /dev/null 2>&1 || { echo "  blkparse failed"; return 1; }
	tail -n +2 trace/test/data/nvme.csv | cut -d, -f1-3 | sed 's/^Z/W/' > "$tmp/want" # the tracer does not tell
	in_any_order "$tmp/want"
	local f
	for f in y.txt y.bin y.blktrace.0 y.blktrace.1; do
		"$lsvd" trace export "$tmp/$f" 2> /dev/null | tail -n +2 | cut -d, -f3-5 > "$tmp/is"
		in_any_order "$tmp/is"
		same "$f and what the guest asked" "$tmp/is" "$tmp/want" || return 1
	done
}

it_ends_by_itself() {
	needs nbdkit qemu-io && needs_live || return 77
	"$lsvd" trace capture -i lo --nbd "$port" --stop-after 1 "$tmp/none.trace" > "$tmp/out" 2> /dev/null || return 1
	grep -q '^0 requests in' "$tmp/out" || { cat "$tmp/out"; return 1; }
	start_nbdkit || return 1
	"$lsvd" trace capture -i lo --nbd "$port" --requests 3 "$tmp/three.trace" > "$tmp/out" 2> "$tmp/err" &
	local c=$!
	pids="$pids $c"
	wait_for "$tmp/err" 'Ctrl-C ends' || return 1
	io_commands | qemu-io -f raw "nbd://127.0.0.1:$port" > /dev/null
	wait $c || return 1
	forget $c
	stop_nbdkit
	[ "$(requests three | wc -l)" = 3 ]
}

says() { # TEXT COMMAND...: it fails, and says so
	local text=$1
	shift
	if "$@" > "$tmp/out" 2>&1; then echo "  did not fail: $*"; return 1; fi
	grep -q -- "$text" "$tmp/out" || { echo "  no '$text' in:"; cat "$tmp/out"; return 1; }
}
errors_say_what_to_do() {
	needs_live || return 77
	says "no interface 'nowhere0'" "$lsvd" trace capture -i nowhere0 "$tmp/x" &&
		says 'is no capture file' "$lsvd" trace capture -r "$0" "$tmp/x" &&
		says 'No such file' "$lsvd" trace capture -r "$tmp/nothing" "$tmp/x" &&
		says 'give one of' "$lsvd" trace capture "$tmp/x" &&
		says 'given twice' "$lsvd" trace capture -i lo --nbd 1 --nvme 1 "$tmp/x" &&
		says 'No such file or directory' "$lsvd" trace capture -i lo "$tmp/no/x" &&
		says 'is no block device' "$lsvd" trace capture --block /dev/null "$tmp/x" || return 1
	command -v setpriv > /dev/null || return 0
	cp "$lsvd" "$tmp/copy" && chmod 755 "$tmp" "$tmp/copy" && mkdir -m 777 "$tmp/anybody"
	says 'no permission to capture' setpriv --reuid 65534 --regid 65534 --clear-groups "$tmp/copy" trace capture -i lo "$tmp/anybody/x"
}

all='errors_say_what_to_do nbd_against_nbdkits_log nbd_from_a_file_of_tcpdump iscsi_against_tgtd nvme_from_a_recording
	block_device_by_the_kernel events_as_blkparse_has_them it_ends_by_itself'
for t in ${*:-$all}; do
	began=$SECONDS
	"$t"
	case $? in
	0) pass=$((pass + 1)); echo "ok     $t ($((SECONDS - began)) s)" ;;
	77) skip=$((skip + 1)); echo "SKIP   $t: $reason" ;;
	*) fail=$((fail + 1)); echo "FAILED $t" ;;
	esac
done
echo "capture: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
