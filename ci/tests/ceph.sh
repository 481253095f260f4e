#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# ceph.sh [NAME...]: images in a Ceph cluster of their own (ci/ceph), and what happens to it meanwhile; without NAME:
# all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# needs: ceph
# Last line: `ceph: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-ceph-XXXXXX") || exit 1
cluster=$tmp/cluster out=$tmp/out pass=0 fail=0 skip=0 background=''
clean_up() {
	[ -z "$background" ] || kill -KILL "$background" 2> /dev/null
	ci/ceph down "$cluster" 2> /dev/null
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

skip_all() { echo "ceph.sh: $1"; echo "ceph: 0 passed, 0 failed, 1 skipped"; exit 0; }
for c in ceph-mon ceph-osd ceph rados; do command -v $c > /dev/null || skip_all "no $c here (ci/setup ceph)"; done
case $("$O/lsvd" info rados:x/y 2>&1) in *'built without RADOS'*) skip_all "$O/lsvd was built without librados-dev (ci/setup build)" ;; esac

ci/ceph up "$cluster" -e -g 3 || { echo "ceph: 0 passed, 1 failed, 0 skipped"; exit 1; }
eval "$(ci/ceph env "$cluster")"
# That pools are full, or not any more, is to be known soon.
for c in 'mon mon_tick_interval 1' 'osd osd_heartbeat_interval 1' 'osd mgr_stats_period 1' 'mgr mgr_stats_period 1' 'mgr mgr_tick_period 1'; do
	# shellcheck disable=SC2086 # words
	ceph config set $c 2> /dev/null || echo "ceph.sh: no setting $c"
done
engine_dir=''
[ ! -e "$O/lsvd-engine/lsvd" ] || ! command -v fio > /dev/null || engine_dir=$(cd "$O/lsvd-engine" && pwd)
export LSVD_SYSTEM_CONFIG=$tmp/lsvd.json XDG_CONFIG_HOME=$tmp XDG_STATE_HOME=$tmp
echo '{"pool": {"size": "64M", "segment": "1M"}, "object": {"size": "1M"}, "rados": {"user": "lsvd"}}' > "$tmp/lsvd.json"
lsvd=$(cd "$O" && pwd)/lsvd
vm=rados:rbd/vm

quietly() { "$@" > "$out" 2>&1; }
l() { quietly "$lsvd" "$@"; }
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; sed 's/^/  | /' "$out" | tail -n 15; return 1; }; }
ok() { "$@" || { echo "  failed: $*"; { grep -aE '^\[ +(ERROR|LINE) ' "$out"; tail -n 15 "$out"; } | sed 's/^/  | /'; return 1; }; }
fails() { if "$@"; then echo "  did not fail: $*"; return 1; fi; }
within() { # SECONDS COMMAND...
	local limit=$1 began=$SECONDS
	shift
	"$@" || return
	[ $((SECONDS - began)) -le "$limit" ] || { echo "  took $((SECONDS - began)) s, more than $limit: $*"; return 1; }
}
# Nothing of anybody is in the cluster.
nothing_left() {
	local left
	left=$(for p in rbd ecpool; do rados -p $p ls --all; done)
	[ -z "$left" ] || { echo "  left behind: $left"; return 1; }
}

# fio with the engine; in the folder of the test, where its states are.
needs_fio() { [ -n "$engine_dir" ] || { reason="no fio, or no engine in $O/lsvd-engine (make fio-headers; make)"; return 77; }; }
# It takes the place of the shell: what runs in the background and is killed is fio.
exec_fio() {
	cd "$work" && LSVD_ENGINE_DIR=$engine_dir exec "$OLDPWD/fio-engine/fio-lsvd" --ioengine=lsvd --image=$vm --create=128m \
		--pool="file:$work/pool" --set="cache.enabled=false,destage.age_ms=500${settings:+,$settings}" --thread --name=t --bs=16k --iodepth=16 "$@"
}
fio() { (exec_fio "$@") > "$out" 2>&1; }
fio_in_background() { exec_fio "$@" > "$out" 2>&1 & background=$!; }
# Some eight seconds of writing more than the pool can hold; then all of it is read back from the cluster.
verify_in_background() { fio_in_background --rw=randwrite --size=96m --rate_iops=800 --verify=crc32c --verify_fatal=1 "$@"; await_writer; }
await_writer() {
	for _ in $(seq 200); do
		rados -p rbd stat vm/.lock > /dev/null 2>&1 && { sleep 1.5; return; }
		sleep 0.05
	done
	echo "  fio does not begin"; return 1
}
await_fio() {
	local rc=0
	wait "$background" || rc=$?
	background=''
	[ $rc = 0 ] || { echo "  fio: exit code $rc"; tail -n 15 "$out" | sed 's/^/  | /'; return 1; }
	has 'READ: .*io=96' || return
	ok l fsck --data $vm && ok l rm -f $vm
}

# ---- the store ----

conformance() {
	echo "$1" > "$work/lsvd.json"
	LSVD_SYSTEM_CONFIG=$work/lsvd.json LSVD_TEST_STORES=rados:rbd ok quietly "$O/test/test_store" extra &&
		has '^test_store: 2[0-9] passed, 0 failed' && nothing_left
}
conformance_replicated() { conformance '{"rados": {"user": "lsvd"}}'; }
conformance_erasure_coded() { conformance '{"rados": {"data_pool": "ecpool"}}'; }
callers_ioctx() { ok quietly env LSVD_TEST_RADOS=rbd "$O/test/test_store_rados" && has ' passed, 0 failed, 0 skipped' && nothing_left; }

# ---- images ----

life() { # OPTIONS of making...
	dd if=/dev/urandom of="$work/raw" bs=1M count=24 status=none
	ok l import -q "$@" "$work/raw" $vm || return
	ok l fsck --data $vm && ok l ls rados:rbd && has '^vm' || return
	"$lsvd" export -q $vm - 2> "$out" | cmp - "$work/raw" || return
	ok l snap create $vm@one && ok l clone $vm@one rados:rbd/clone || return
	"$lsvd" export -q rados:rbd/clone - 2> "$out" | cmp - "$work/raw" || return
	ok l rm -f rados:rbd/clone && ok l snap remove $vm@one && ok l rm -f $vm && nothing_left
}
image_life() { life; }
image_life_erasure_coded() { life --set rados.data_pool=ecpool; }
namespaces_are_separate() {
	ok l create --size 1G rados:rbd/one/vm && ok l create --size 2G rados:rbd/two/vm && ok l info rados:rbd/one/vm || return
	has '1 GiB' && ok l ls rados:rbd/two && fails l info $vm || return
	ok l rm -f rados:rbd/one/vm && ok l info rados:rbd/two/vm && has '2 GiB' && ok l rm -f rados:rbd/two/vm && nothing_left
}
data_is_where_it_was_made() {
	needs_fio || return
	ok l create --size 128M --set rados.data_pool=ecpool $vm && ok fio --rw=randwrite --size=32m --verify=crc32c --verify_fatal=1 || return
	[ "$(rados -p rbd ls | sort | tr '\n' ' ')" = 'vm/super ' ] || { echo "  in rbd: $(rados -p rbd ls)"; return 1; }
	[ "$(rados -p ecpool ls | wc -l)" -gt 10 ] && ok l fsck --data $vm && ok l rm -f $vm && nothing_left
}
killed_writer() {
	local rc=0 state=$work/local-t-0-verify.state
	needs_fio || return
	# shellcheck disable=SC2016 # for the shell that fio starts
	fio_in_background --rw=randwrite --bs=4k --size=128m --do_verify=0 --verify=crc32c --verify_state_save=1 \
		--trigger-file="$work/trigger" --trigger='kill -9 $PPID' --rate_iops=4000
	await_writer || return
	touch "$work/trigger"
	wait $background 2> /dev/null || rc=$?
	background=''
	[ $rc = 137 ] && [ -s "$state" ] || { echo "  fio was not killed, or left no state"; return 1; }
	rados -p rbd stat vm/.lock > /dev/null 2>&1 || { echo "  the dead writer has no lock"; return 1; }
	# Its lock has most of a minute to go, but whoever held it is seen to be dead.
	within 10 ok fio --rw=randread --bs=4k --size=128m --verify=crc32c --verify_state_load=1 --verify_fatal=1 || return
	has 'READ: .*io=' && ok l fsck --data $vm && ok l rm -f $vm && nothing_left
}

# ---- a cluster in trouble ----

osd_killed_and_restarted() {
	needs_fio || return
	verify_in_background && ci/ceph signal "$cluster" osd.0 KILL && sleep 4 && ci/ceph start "$cluster" osd.0 && await_fio && nothing_left
}
# After a stop that outlasts the lease of a placement group (16 s less what had gone of it), its OSD may hold all requests back
# for ever, as `laggy` (seen in 16.2, https://tracker.ceph.com/issues/80404).  To be marked down helps, as a restart does.
unless_laggy() { # OSD COMMAND...: one that ends within 30 s, or the OSD is helped
	local osd=$1 n
	shift
	for n in $(seq 150); do "$@" || return 0; sleep 0.2; done
	echo "  osd.$osd holds requests back; it is marked down ($((n / 5)) s)"
	ceph osd down "$osd" > /dev/null 2>&1
}
osd_stopped_for_ten_seconds() {
	needs_fio || return
	verify_in_background && ci/ceph signal "$cluster" osd.1 STOP && sleep 10 && ci/ceph signal "$cluster" osd.1 CONT || return
	unless_laggy 1 kill -0 "$background" 2> /dev/null
	await_fio && nothing_left
}
# Longer than a request may take: what became of a PUT is not known then, it may still land; it is looked up, not assumed.
outcomes_unknown() {
	local settings=rados.timeout=5 i
	needs_fio && verify_in_background --stats_json="$work/stats" || return
	for i in 0 1 2; do ci/ceph signal "$cluster" osd.$i STOP; done
	sleep 8
	for i in 0 1 2; do ci/ceph signal "$cluster" osd.$i CONT; done
	await_fio && cp "$work/stats" "$out" && has '"store_errors": [1-9]' && nothing_left
}
monitor_lost() {
	needs_fio || return
	verify_in_background && ci/ceph signal "$cluster" mon.a KILL && sleep 4 && ci/ceph start "$cluster" mon.a && await_fio && nothing_left
}
await_fullness() { # yes or no
	local n
	for _ in $(seq 150); do
		n=$(ceph osd dump | grep -cE "^pool .* flags ([a-z,]*,)?full\b") # nearfull is something else
		if [ "$1" = yes ]; then [ "$n" = 0 ] || return 0; else [ "$n" != 0 ] || return 0; fi
		sleep 0.2
	done
	echo "  the pools do not become full, or not empty again"; return 1
}
has_room() { ceph osd set-full-ratio 0.95 && ceph osd set-backfillfull-ratio 0.9 && ceph osd set-nearfull-ratio 0.85; }
full_cluster() {
	needs_fio || return
	head -c 120M /dev/urandom | rados -p rbd put ballast - || return
	dd if=/dev/urandom of="$work/raw" bs=1M count=4 status=none
	ok l create --size 128M rados:rbd/other || return
	ceph osd set-nearfull-ratio 0.01 && ceph osd set-backfillfull-ratio 0.015 && ceph osd set-full-ratio 0.02
	await_fullness yes || return
	fails within 20 l import -q --set store.retry_ms=10 "$work/raw" rados:rbd/new && has 'is full' || return
	ok l rm -f rados:rbd/other || return # what frees space needs none
	fio_in_background --rw=randwrite --size=96m --verify=crc32c --verify_fatal=1
	sleep 3
	kill -0 $background 2> /dev/null || { echo "  fio ended on a full cluster"; return 1; }
	has_room && await_fullness no && await_fio && rados -p rbd rm ballast && nothing_left
} 2>> "$tmp/noise"

# A quota is enforced by what a manager daemon counts.
full_by_quota() {
	needs_fio || return
	command -v ceph-mgr > /dev/null || { reason="no ceph-mgr (ci/setup ceph)"; return 77; }
	ci/ceph start "$cluster" mgr.x && head -c 20M /dev/urandom | rados -p rbd put ballast - || return
	dd if=/dev/urandom of="$work/raw" bs=1M count=4 status=none
	ceph osd pool set-quota rbd max_bytes 1000000 && await_fullness yes || return
	fails within 20 l import -q --set store.retry_ms=10 "$work/raw" rados:rbd/new && has "pool 'rbd': write .* the pool is full \(its quota is reached\)" || return
	fio_in_background --rw=randwrite --size=96m --verify=crc32c --verify_fatal=1
	sleep 3
	kill -0 $background 2> /dev/null || { echo "  fio ended on a full pool"; return 1; }
	ceph osd pool set-quota rbd max_bytes 0 && await_fullness no && await_fio && rados -p rbd rm ballast && nothing_left || return
	ci/ceph signal "$cluster" mgr.x KILL
} 2>> "$tmp/noise"

# ---- messages, and how soon they come ----

no_pool() { fails within 5 l info rados:nosuch/vm && has "pool 'nosuch' does not exist; create it with"; }
no_data_pool() { fails within 5 l create --size 1G --set rados.data_pool=nosuch $vm && has "pool 'nosuch' does not exist" && nothing_left; }
no_cluster() {
	sed 's/^mon_host.*/mon_host = [v2:127.0.0.1:1\/0]/' "$CEPH_CONF" > "$work/dead.conf"
	fails within 6 l info --set rados.conf="$work/dead.conf" --set rados.connect_timeout=3 $vm && has 'no monitor of the cluster answered within 3 s'
}
no_configuration() { fails l info --set rados.conf="$work/none.conf" $vm && has "cannot read $work/none.conf: No such file"; }
no_user() { fails within 5 l info --set rados.user=nosuch $vm && has "(no key for|refuses) user 'nosuch'"; }
no_right() { fails within 5 l create --size 1G --set rados.user=lookon $vm && has "user 'lookon' has no right to; see" && nothing_left; }
no_answer() {
	ok l create --size 1G $vm || return
	for i in 0 1 2; do ci/ceph signal "$cluster" osd.$i STOP; done
	fails within 20 l info --set rados.timeout=5 $vm
	local rc=$?
	for i in 0 1 2; do ci/ceph signal "$cluster" osd.$i CONT; done
	[ $rc = 0 ] && has 'the cluster does not answer|timed out' && ok l info $vm && ok l rm -f $vm && nothing_left
}

# ---- one writer ----

# Refused, named, robbed while it is stopped, and what it learns: as in files.
one_writer() {
	needs_fio || return
	O=$O ok quietly ci/tests/takeover.sh rados:rbd && has '^takeover: [1-9][0-9]* passed, 0 failed, 0 skipped$' && nothing_left
}

# The thief has the cluster shut the old writer out, which learns it whatever it does next; without the right to, nothing
# is taken.
robbed_and_shut_out() {
	local rc=0 steal=(gc --pool "file:$work/pool2" --steal --no-journal --set rados.blocklist=true)
	needs_fio || return
	fio_in_background --rw=randwrite --bs=4k --size=128m --time_based --runtime=60 --rate_iops=500
	await_writer || return
	ceph auth get-or-create client.modest mon 'allow r' osd 'profile rbd' 2> /dev/null >> "$cluster/keyring" || return
	fails l "${steal[@]}" --set rados.user=modest $vm && has "blocklist.*user 'modest' needs the monitors' profile rbd" || return
	fails l gc --pool "file:$work/pool2" $vm && has 'in use by host .* pid' || return
	"$lsvd" "${steal[@]}" $vm > "$work/steal" 2>&1 || { cat "$work/steal"; return 1; }
	ceph osd blocklist ls 2> /dev/null | grep -q '^127.0.0.1:' || { echo "  nobody is on the blocklist"; return 1; }
	wait "$background" || rc=$?
	background=''
	ceph osd blocklist clear > /dev/null 2>&1
	[ $rc != 0 ] || { echo "  the old writer did not learn it"; return 1; }
	ok l fsck --data $vm && ok l rm -f --pool "file:$work/pool2" $vm && nothing_left
}

# After a failure: a cluster that works and has nothing in it, for the next one.
tidy_up() {
	local d p
	for d in mon.a osd.0 osd.1 osd.2; do ci/ceph signal "$cluster" $d CONT || ci/ceph start "$cluster" $d; done
	has_room
	ceph osd pool set-quota rbd max_bytes 0
	ci/ceph signal "$cluster" mgr.x KILL
	for p in rbd ecpool; do timeout 60 rados purge $p --yes-i-really-really-mean-it; done
} > /dev/null 2>&1

run() {
	local rc=0 began=$SECONDS
	reason='' work=$tmp/$1
	mkdir "$work"
	: > "$out"
	"$1" || rc=$?
	case $rc in
	0) pass=$((pass + 1)); echo "ok      $1 ($((SECONDS - began)) s)" ;;
	77) skip=$((skip + 1)); echo "skipped $1: $reason" ;;
	*)
		fail=$((fail + 1)); echo "FAILED  $1 ($((SECONDS - began)) s)"
		[ -z "$background" ] || { kill -KILL "$background"; wait "$background"; } 2> /dev/null
		background=''
		tidy_up
		;;
	esac
}
tests=${*:-conformance_replicated conformance_erasure_coded callers_ioctx image_life image_life_erasure_coded
	namespaces_are_separate data_is_where_it_was_made no_pool no_data_pool no_cluster no_configuration no_user no_right
	no_answer killed_writer one_writer robbed_and_shut_out outcomes_unknown osd_killed_and_restarted
	osd_stopped_for_ten_seconds monitor_lost full_cluster full_by_quota}
for t in $tests; do run "$t"; done
echo "ceph: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
