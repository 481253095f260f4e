#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# legs.sh [NAME...]: journals on real legs (files, memory, nbdkit); without NAME: all tests.
#
#   durability_*   fio verify on each of the five: one SSD, memory, two SSDs, remote memory, two remote disks
#   restart        nbdkit killed -9 and started again while fio writes: dropped, I/O goes on, resync; then the local leg is
#                  thrown away, and the image opened from the remote leg alone
#   slow_server    one that takes longer than a leg may (nbdkit's delay filter)
#   cut_*          the link to the remote leg, in a network namespace, drops everything, delays, loses
#   gateway_death  the writing process killed -9 in one namespace, its local leg removed, the image taken over in another
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} and in namespaces of its own, removed at the end.  O is the build
# folder.  Last line: `legs: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-legs-XXXXXX") || exit 1
ns=lsvdlegs$$
echo "{}" > "$tmp/config"
out=$tmp/out pass=0 fail=0 skip=0
servers=() spaces=()

cleanup() {
	[ ${#servers[@]} = 0 ] || kill -9 "${servers[@]}" 2> /dev/null
	wait 2> /dev/null
	for n in "${spaces[@]}"; do ip netns del "$n" 2> /dev/null; done
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

leave() { echo "legs.sh: $1"; echo "legs: 0 passed, 0 failed, 1 skipped"; exit 0; }
if ! command -v fio > /dev/null || [ ! -e "$O/lsvd-engine/lsvd" ]; then
	leave "no fio, or no engine in $O/lsvd-engine (make fio-headers; make)"
fi
command -v nbdkit > /dev/null || leave "no nbdkit (package nbdkit)"
case $(LSVD_SYSTEM_CONFIG="$tmp/config" "$O/lsvd" gc --pool nbd://127.0.0.1:1/x mem:x 2>&1) in
*'knows no nbd'*) leave "$O/lsvd was built without libnbd (ci/setup build)" ;;
esac
engine_dir=$(cd "$O/lsvd-engine" && pwd)

# ---- servers ----

# serve NAME [IN] ARGS...: nbdkit on the socket NAME; IN: a network namespace, port 10809 of it.  Its pid in $server.
serve() {
	local name=$1
	shift
	if [ "${1:-}" = in ]; then
		ip netns exec "$2" nbdkit -f -i 0.0.0.0 -p 10809 "${@:3}" 2>> "$tmp/nbdkit.log" &
	else
		rm -f "$work/$name"
		nbdkit -f -U "$work/$name" "$@" 2>> "$tmp/nbdkit.log" &
	fi
	server=$!
	servers+=("$server")
	for _ in $(seq 300); do
		if [ "${1:-}" = in ]; then
			ip netns exec "$2" bash -c 'exec 3<> /dev/tcp/127.0.0.1/10809' 2> /dev/null && return
		elif [ -S "$work/$name" ]; then return; fi
		sleep 0.02
	done
	echo "  nbdkit does not start"; return 1
}
url() { echo "nbd+unix:///?socket=$work/$1"; }
disk() { truncate -s 160M "$work/$1.disk"; echo "$work/$1.disk"; }
# kill_server PID: and wait, without bash's word about it.
kill_server() { kill -9 "$1" 2> /dev/null; wait "$1" 2> /dev/null; }

# ---- fio ----

# run POOL MIRROR ARGS...: fio with the engine, in $wrap (a namespace).
run() {
	local pool=$1 mirror=$2
	shift 2
	(cd "$work" && LSVD_ENGINE_DIR=$engine_dir LSVD_SYSTEM_CONFIG="$tmp/config" exec ${wrap:-} "$OLDPWD/fio-engine/fio-lsvd" \
		--ioengine=lsvd --image="file:$work/store/vm" --pool="$pool" ${mirror:+--mirror="$mirror"} --create=512m \
		--set="pool.size=128M,pool.segment=1M,pool.leg_timeout_ms=1000,object.size=4M,journal.ram=16M$set" \
		--thread --name=t --bs=4k --iodepth=16 --size=512m --verify=crc32c "$@") > "$out" 2>&1
}
tell() { sed 's/^/  | /' "$out" | tail -n "${1:-15}"; return 1; }
heard() { grep -q -- "$1" "$out" || { echo "  not heard: $1"; tell 25; }; }
write_all() { run "$1" "$2" --rw=randwrite --io_size="${io:-96m}" --verify_fatal=1 "${@:3}" || { echo "  writing failed"; tell; }; }

# Both in one: write, then read what was written in a new process.
write_and_verify() {
	run "$1" "$2" --rw=randwrite --io_size=96m --do_verify=0 --verify_state_save=1 || { echo "  writing failed"; tell || return; }
	verify_state "${3:-$1}" "${4-$2}"
}
verify_state() {
	[ -s "$work/local-t-0-verify.state" ] || { echo "  no verify state"; return 1; }
	run "$1" "$2" --rw=randread --verify_state_load=1 --verify_fatal=1 --io_size="${io:-96m}" || { echo "  verify failed"; tell || return; }
	grep -q 'READ: .*io=[1-9]' "$out" || { echo "  nothing was read"; tell; }
}

# ---- the five durabilities ----

durability_ssd() { write_and_verify "file:$work/a" ""; }
# Nothing survives its process, so it is read back by the same.
durability_mem() { write_all mem:128M ""; }
durability_two_ssd() { write_and_verify "file:$work/a" "file:$work/b"; }
durability_remote_mem() { serve m memory 160M && write_and_verify "$(url m)" ""; }
durability_two_remote() {
	serve x file "$(disk x)" && serve y file "$(disk y)" && write_and_verify "$(url x)" "$(url y)"
}
durability_mixed() {
	serve m memory 160M && serve x file "$(disk x)" || return
	set=,pool.acks=2 write_and_verify "file:$work/a" "$(url m) $(url x)"
}

# ---- a leg that dies and comes back ----

# Write for $1 seconds at a rate that leaves time, in the background; its pid in $writer.
write_slowly() {
	local seconds=$1 pool=$2 mirror=$3
	shift 3
	run "$pool" "$mirror" --rw=randwrite --rate_iops=3000 --time_based --runtime="$seconds" --do_verify=0 \
		--verify_state_save=1 "$@" &
	writer=$!
}
await() {
	for _ in $(seq 300); do
		grep -q -- "$1" "$out" 2> /dev/null && return
		sleep 0.05
	done
	echo "  never heard: $1"; tell 25
}

restart() {
	local file
	file=$(disk r)
	serve r file "$file" || return
	run "file:$work/a" "$(url r)" --rw=randwrite --rate_iops=4000 --io_size=128m --do_verify=0 --verify_state_save=1 \
		--norandommap=0 &
	writer=$!
	sleep 1.5
	kill_server "$server"
	await "is dropped" || return
	sleep 1
	serve r file "$file" || return
	await "is in sync again" || return
	wait "$writer" || { echo "  fio failed"; tell || return; }
	rm -f "$work/a"
	verify_state "$(url r)" ""
}

# ---- network namespaces ----

# A gateway $ns-a and its successor $ns-b, each with a link to the server's $ns-s.
make_net() {
	local n
	[ "$(id -u)" = 0 ] || { reason="needs root for network namespaces"; return 2; }
	command -v ip > /dev/null && command -v tc > /dev/null || { reason="no ip, tc (package iproute2)"; return 2; }
	for n in a b s; do
		ip netns add "$ns-$n" 2> "$out" || { reason="no network namespaces here: $(head -n 1 "$out")"; return 2; }
		spaces+=("$ns-$n")
		ip -n "$ns-$n" link set lo up
	done
	for n in a b; do
		ip -n "$ns-s" link add "to$n" type veth peer name eth0 netns "$ns-$n" 2> "$out" ||
			{ reason="no veth here: $(head -n 1 "$out")"; return 2; }
	done
	ip -n "$ns-s" addr add 10.91.1.1/24 dev toa && ip -n "$ns-s" addr add 10.91.2.1/24 dev tob &&
		ip -n "$ns-a" addr add 10.91.1.2/24 dev eth0 && ip -n "$ns-b" addr add 10.91.2.2/24 dev eth0 || return
	for n in a b; do ip -n "$ns-s" link set "to$n" up && ip -n "$ns-$n" link set eth0 up || return; done
}
drop_net() { for n in "${spaces[@]}"; do ip netns del "$n" 2> /dev/null; done; spaces=(); }
from_a=nbd://10.91.1.1 from_b=nbd://10.91.2.1
shape() { ip netns exec "$ns-s" tc qdisc "$1" dev toa root netem "${@:2}" 2> /dev/null; }

# The link is cut: dropped after the time-out, I/O goes on; when it is whole again, resync.
cut_link() {
	make_net || return
	serve n in "$ns-s" file "$(disk n)" || return
	wrap="ip netns exec $ns-a"
	run "file:$work/a" $from_a --rw=randwrite --rate_iops=4000 --io_size=128m --do_verify=0 --verify_state_save=1 &
	writer=$!
	sleep 1.5
	ip -n "$ns-s" link set toa down
	await "is dropped" || return
	sleep 1
	ip -n "$ns-s" link set toa up
	await "is in sync again" || return
	wait "$writer" || { echo "  fio failed"; tell || return; }
	rm -f "$work/a"
	verify_state $from_a ""
}

# A server that takes longer than a leg may is dropped, and the writes are those that one disk makes.
slow_server() {
	serve r --filter=delay memory 160M wdelay=1500ms || return
	set=,pool.degraded=true run "file:$work/a" "$(url r)" --rw=randwrite --io_size=8m --do_verify=0 --verify_state_save=1 ||
		{ tell || return; }
	heard "waited for it" && heard "is dropped" || return
	io=8m verify_state "file:$work/a" ""
}

# netem: some packets are lost, all are late.  Nothing is dropped, nothing is wrong.
cut_netem() {
	make_net || return
	if ! shape add delay 2ms loss 1%; then reason="no tc netem in this kernel"; return 2; fi
	serve n in "$ns-s" file "$(disk n)" || return
	wrap="ip netns exec $ns-a"
	run "file:$work/a" $from_a --rw=randwrite --io_size=16m --do_verify=0 --verify_state_save=1 || { tell || return; }
	# Now it is slower than a leg may be.
	shape change delay 4000ms || return
	run "file:$work/a" $from_a --rw=randwrite --io_size=8m --do_verify=0 --verify_state_save=0 --offset=256m \
		--set="pool.size=128M,pool.segment=1M,pool.leg_timeout_ms=1000,object.size=4M,journal.ram=16M,pool.degraded=true" ||
		{ tell || return; }
	heard "leg 'nbd:.*is \(dropped\|not there\)" || return
	shape change delay 1ms || return
	io=16m verify_state "file:$work/a" $from_a
}

gateway_death() {
	local rc
	make_net || return
	serve n in "$ns-s" memory 160M || return
	wrap="ip netns exec $ns-a"
	# shellcheck disable=SC2016 # for the shell that fio starts
	run "file:$work/a" $from_a --rw=randwrite --rate_iops=6000 --do_verify=0 --verify_state_save=1 \
		--trigger-file="$work/trigger" --trigger='kill -9 $PPID' &
	writer=$!
	sleep 3
	touch "$work/trigger"
	wait "$writer" 2> /dev/null
	rc=$?
	[ $rc = 137 ] || { echo "  fio was not killed: $rc"; tell || return; }
	rm -f "$work/a" "$work/trigger"
	ip -n "$ns-s" link set toa down
	wrap="ip netns exec $ns-b"
	# Without the leg the image is not complete, or does not open: what it has was needed.
	verify_state $from_b ""
}

all='durability_ssd durability_mem durability_two_ssd durability_remote_mem durability_two_remote durability_mixed
	restart slow_server cut_link cut_netem gateway_death'
for t in ${*:-$all}; do
	work=$tmp/$t wrap='' reason='' set=''
	mkdir "$work" || exit 1
	"$t" 2> "$tmp/err"
	rc=$?
	case $rc in
	0) pass=$((pass + 1)); echo "ok      $t" ;;
	2) skip=$((skip + 1)); echo "skipped $t: $reason" ;;
	*) fail=$((fail + 1)); echo "FAILED  $t"; sed 's/^/  | /' "$tmp/err" | tail -n 5 ;;
	esac
	[ ${#servers[@]} = 0 ] || { kill -9 "${servers[@]}"; wait "${servers[@]}"; } 2> /dev/null
	servers=()
	drop_net
	rm -rf "$work"
done
echo "legs: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ] && [ $pass -gt 0 ]
