#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# legs.sh [NAME...]: journals on real legs (files, memory, nbdkit); without NAME: all tests.
#
#   durability_*   fio verify on each of the five: one SSD, memory, two SSDs, remote memory, two remote disks
#   restart        nbdkit killed -9 and started again while fio writes: dropped, I/O goes on, resync; then the local leg is
#                  thrown away, and the image opened from the remote leg alone
#   slow_server    one that takes longer than a leg may (nbdkit's delay filter)
#   cut_*          the cable to the remote leg, in a network namespace: unplugged; late and losing a little; later than a leg
#                  may be; dropping everything in silence (ci/tests/slowlink.c)
#   tls_*          an export that wants TLS: certificates, a shared key; a server that is not the one, or has no TLS
#   gateway_death  the writing process killed -9 in one namespace, its local leg removed, the image taken over in another
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} and in namespaces of its own, removed at the end.  O is the build
# folder.  Last line: `legs: N passed, N failed, N skipped`; exit code 0 when none failed.
# needs: mounts
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

# serve NAME [in NAMESPACE | at PORT] ARGS...: nbdkit on the socket NAME, on port 10809 of a network namespace, or on a port of
# this one.  Its pid in $server.
serve() {
	local name=$1
	shift
	if [ "${1:-}" = in ]; then
		nsenter --net="/run/netns/$2" nbdkit -f -i 0.0.0.0 -p 10809 "${@:3}" 2>> "$tmp/nbdkit.log" &
	elif [ "${1:-}" = at ]; then
		nbdkit -f -i 127.0.0.1 -p "$2" "${@:3}" 2>> "$tmp/nbdkit.log" &
	else
		rm -f "$work/$name"
		nbdkit -f -U "$work/$name" "$@" 2>> "$tmp/nbdkit.log" &
	fi
	server=$!
	servers+=("$server")
	for _ in $(seq 300); do
		if [ "${1:-}" = in ]; then
			nsenter --net="/run/netns/$2" bash -c 'exec 3<> /dev/tcp/127.0.0.1/10809' 2> /dev/null && return
		elif [ "${1:-}" = at ]; then
			(: < "/dev/tcp/127.0.0.1/$2") 2> /dev/null && kill -0 "$server" 2> /dev/null && return
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
	run "$1" "$2" --rw=randwrite --io_size="${io:-96m}" --do_verify=0 --verify_state_save=1 || { echo "  writing failed"; tell || return; }
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

# Writing in the background, at a rate that leaves time, from when this returns until stop_writing().
objects() { find "$work/store/vm" -type f 2> /dev/null | wc -l; }
write_on() { # POOL MIRROR
	local before
	before=$(objects)
	run "$1" "$2" --rw=randwrite --rate_iops=4000 --do_verify=0 --verify_state_save=1 --norandommap=0 --trigger-file="$work/stop" &
	writer=$!
	for _ in $(seq 1200); do
		[ "$(objects)" -le $((before + 1)) ] || return 0
		kill -0 "$writer" 2> /dev/null || break
		sleep 0.05
	done
	echo "  fio does not write"; tell
}
stop_writing() {
	touch "$work/stop"
	wait "$writer" || { echo "  fio failed"; tell || return; }
	rm -f "$work/stop"
}
await() {
	for _ in $(seq 1200); do
		grep -q -- "$1" "$out" 2> /dev/null && return
		sleep 0.05
	done
	echo "  never heard: $1"; tell 25
}

restart() {
	local file
	file=$(disk r)
	serve r file "$file" || return
	write_on "file:$work/a" "$(url r)" || return
	kill_server "$server"
	await "is dropped" || return
	sleep 1
	serve r file "$file" || return
	await "is in sync again" || return
	stop_writing || return
	rm -f "$work/a"
	io=512m verify_state "$(url r)" ""
}

# ---- TLS ----

free_port() {
	local p
	for _ in $(seq 100); do
		p=$((20000 + RANDOM % 12000))
		(: < /dev/tcp/127.0.0.1/$p) 2> /dev/null || { echo $p; return; }
	done
}
# serve_tls NAME ARGS...: on a port that is in $port; another one when somebody was faster.
serve_tls() {
	for _ in 1 2 3; do
		port=$(free_port)
		serve "$1" at "$port" --tls=require "${@:2}" && return
	done
	return 1
}
# A directory of certificates as nbdkit and libnbd want it: make_certificates DIR HOST
make_certificates() {
	command -v openssl > /dev/null || { reason="no openssl (package openssl)"; return 2; }
	mkdir "$1" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=test CA" -keyout "$1/ca-key.pem" -out "$1/ca-cert.pem" &&
		openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$1/server-key.pem" -out "$1/request.pem" &&
		openssl x509 -req -days 2 -in "$1/request.pem" -CA "$1/ca-cert.pem" -CAkey "$1/ca-key.pem" -CAcreateserial \
			-extfile <(echo "subjectAltName=IP:$2") -out "$1/server-cert.pem"
} > "$out" 2>&1
refused() { if run "$@" --rw=randwrite --io_size=1m; then echo "  it was opened"; return 1; fi; }

tls_certificates() {
	make_certificates "$work/pki" 127.0.0.1 || return
	serve_tls t --tls-certificates="$work/pki" memory 160M || return
	io=16m write_and_verify "nbds://127.0.0.1:$port/?tls-certificates=$work/pki" "" || return
	# Who asks without TLS, and who does not know this authority.
	refused "nbd://127.0.0.1:$port/" "" && heard "TLS" || return
	make_certificates "$work/other" 127.0.0.1 || return
	refused "nbds://127.0.0.1:$port/?tls-certificates=$work/other" "" && heard "certificate" || return
	refused "nbds://127.0.0.1:$port/?tls-certificates=$work/none" "" && heard "no ca-cert.pem in $work/none"
}
tls_another_host() {
	make_certificates "$work/pki" 127.0.0.9 && serve_tls t --tls-certificates="$work/pki" memory 160M || return
	refused "nbds://127.0.0.1:$port/?tls-certificates=$work/pki" "" && heard "certificate"
}
tls_shared_key() {
	echo "gateway:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" > "$work/keys.psk"
	serve_tls t --tls-psk="$work/keys.psk" memory 160M || return
	local url="nbds://gateway@127.0.0.1:$port/?tls-psk-file=$work"
	io=16m write_and_verify "file:$work/a" "$url/keys.psk" || return
	echo "gateway:$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" > "$work/wrong.psk"
	refused "$url/wrong.psk" "" && heard "nbds://gateway@127.0.0.1" || return
	if grep -qF -e "$(cut -d : -f 2 "$work/keys.psk")" -e "$(cut -d : -f 2 "$work/wrong.psk")" "$out"; then
		echo "  the key is in the output"; return 1
	fi
}

# ---- network namespaces (by nsenter: `ip netns exec` wants to remount the root, which a chroot has not) ----

ipn() { nsenter --net="/run/netns/$1" ip "${@:2}"; }
# A gateway $ns-a and its successor $ns-b, each with a link to the server's $ns-s.  With a word: a's cable is as bad as
# cable() says, by slowlink in $ns-m.
make_net() {
	local n a_end=s
	[ "$(id -u)" = 0 ] || { reason="needs root for network namespaces"; return 2; }
	command -v ip > /dev/null || { reason="no ip (package iproute2)"; return 2; }
	for n in a b s ${1:+m}; do
		ip netns add "$ns-$n" 2> "$out" || { reason="no network namespaces here: $(head -n 1 "$out")"; return 2; }
		spaces+=("$ns-$n")
		ipn "$ns-$n" link set lo up
	done
	[ -z "${1:-}" ] || a_end=m
	ipn "$ns-$a_end" link add toa type veth peer name eth0 netns "$ns-a" 2> "$out" ||
		{ reason="no veth here: $(head -n 1 "$out")"; return 2; }
	ipn "$ns-s" link add tob type veth peer name eth0 netns "$ns-b" || return
	[ $a_end = s ] || ipn "$ns-s" link add toa type veth peer name tos netns "$ns-m" || return
	ipn "$ns-s" addr add 10.91.1.1/24 dev toa && ipn "$ns-s" addr add 10.91.2.1/24 dev tob &&
		ipn "$ns-a" addr add 10.91.1.2/24 dev eth0 && ipn "$ns-b" addr add 10.91.2.2/24 dev eth0 || return
	for n in a b; do ipn "$ns-s" link set "to$n" up && ipn "$ns-$n" link set eth0 up || return; done
	[ $a_end = s ] || lay_cable
}
# The fifo is kept open for writing until the test ends.
lay_cable() {
	ipn "$ns-m" link set toa up && ipn "$ns-m" link set tos up || return
	[ -e "$tmp/slowlink" ] || ${CC:-cc} -O2 -o "$tmp/slowlink" ci/tests/slowlink.c || return
	mkfifo "$work/cable" && exec 9<> "$work/cable" || return
	nsenter --net="/run/netns/$ns-m" "$tmp/slowlink" toa tos < "$work/cable" &
	servers+=($!)
}
cable() { echo "$1 $2" >&9; } # DELAY_MS LOSS_PERCENT, in each direction
drop_net() { for n in "${spaces[@]}"; do ip netns del "$n" 2> /dev/null; done; spaces=(); }
from_a=nbd://10.91.1.1 from_b=nbd://10.91.2.1

# The link is cut: dropped after the time-out, I/O goes on; when it is whole again, resync.
cut_link() {
	make_net || return
	serve n in "$ns-s" file "$(disk n)" || return
	wrap="nsenter --net=/run/netns/$ns-a"
	write_on "file:$work/a" $from_a || return
	ipn "$ns-s" link set toa down
	await "is dropped" || return
	sleep 1
	ipn "$ns-s" link set toa up
	await "is in sync again" || return
	stop_writing || return
	rm -f "$work/a"
	io=512m verify_state $from_a ""
}

# A server that takes longer than a leg may is dropped, and the writes are those that one disk makes.
slow_server() {
	serve r --filter=delay memory 160M wdelay=1500ms || return
	set=,pool.degraded=true run "file:$work/a" "$(url r)" --rw=randwrite --io_size=8m --do_verify=0 --verify_state_save=1 ||
		{ tell || return; }
	heard "waited for it" && heard "is dropped" || return
	io=8m verify_state "file:$work/a" ""
}

# Some packets are lost, all are late: nothing is wrong for that.  Then all are later than a leg may be, then none comes
# through: it is dropped, I/O goes on, and it is brought up to date when the cable is good again.
cut_delay() {
	make_net cable && serve n in "$ns-s" file "$(disk n)" || return
	wrap="nsenter --net=/run/netns/$ns-a"
	cable 2 1
	run "file:$work/a" $from_a --rw=randwrite --io_size=8m --do_verify=0 --verify_state_save=1 || { tell || return; }
	io=8m verify_state "file:$work/a" $from_a || return
	dropped_and_back 3000 0 "lags\|waited for it"
}
cut_drop() {
	make_net cable && serve n in "$ns-s" file "$(disk n)" || return
	wrap="nsenter --net=/run/netns/$ns-a"
	dropped_and_back 0 100 "lags\|waited for it"
}
dropped_and_back() { # DELAY_MS LOSS_PERCENT WHAT-IS-SAID
	write_on "file:$work/a" $from_a || return
	cable "$1" "$2"
	await "is dropped" && heard "$3" || return
	sleep 0.5
	cable 0 0
	await "is in sync again" || return
	stop_writing || return
	rm -f "$work/a"
	io=512m verify_state $from_a ""
}

gateway_death() {
	local rc
	make_net || return
	serve n in "$ns-s" memory 160M || return
	wrap="nsenter --net=/run/netns/$ns-a"
	# shellcheck disable=SC2016 # for the shell that fio starts
	run "file:$work/a" $from_a --rw=randwrite --rate_iops=6000 --do_verify=0 --verify_state_save=1 \
		--trigger-file="$work/trigger" --trigger='kill -9 $PPID' &
	writer=$!
	for _ in $(seq 1200); do [ "$(objects)" -le 6 ] || break; sleep 0.05; done
	touch "$work/trigger"
	wait "$writer" 2> /dev/null
	rc=$?
	[ $rc = 137 ] || { echo "  fio was not killed: $rc"; tell || return; }
	rm -f "$work/a" "$work/trigger"
	ipn "$ns-s" link set toa down
	wrap="nsenter --net=/run/netns/$ns-b"
	# Without the leg the image is not complete, or does not open: what it has was needed.
	verify_state $from_b ""
}

all='durability_ssd durability_mem durability_two_ssd durability_remote_mem durability_two_remote durability_mixed
	restart slow_server tls_certificates tls_another_host tls_shared_key cut_link cut_delay cut_drop gateway_death'
for t in ${*:-$all}; do
	work=$tmp/$t wrap='' reason='' set='' began=$SECONDS
	mkdir "$work" || exit 1
	"$t" 2> "$tmp/err"
	rc=$?
	case $rc in
	0) pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)" ;;
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
