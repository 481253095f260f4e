#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# s3.sh [NAME...]: images on a real S3 service, a radosgw on a throw-away cluster (ci/ceph); without NAME: all tests.
#
# What a service does wrong on demand is tested without one, in core/test/test_s3*.c.
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# needs: ceph
# Last line: `s3: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
skip_all() { echo "s3.sh: $1"; echo "s3: 0 passed, 0 failed, 1 skipped"; exit 0; }
for p in ceph-mon ceph-osd radosgw curl; do command -v $p > /dev/null || skip_all "no $p here (ci/setup ceph)"; done
case $("$O/lsvd" info s3:x/y 2>&1) in *'built without S3'*) skip_all "$O/lsvd was built without libcurl, libcrypto and expat (ci/setup build)" ;; esac
lsvd=$(cd "$O" && pwd)/lsvd engine_dir=''
[ ! -e "$O/lsvd-engine/lsvd" ] || ! command -v fio > /dev/null || engine_dir=$(cd "$O/lsvd-engine" && pwd)
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-s3-XXXXXX") || exit 1
out=$tmp/out all=$tmp/all pass=0 fail=0 skip=0 top=$PWD
clean_up() { ci/ceph down "$tmp/c" > /dev/null 2>&1; rm -rf "$tmp"; }
trap clean_up EXIT
trap 'exit 130' INT TERM
export LSVD_SYSTEM_CONFIG=$tmp/system.json XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state HOME=$tmp

show() { sed 's/^/  | /' "$out" | tail -n 15; }
ran() { cat "$out" >> "$all"; }
ok() { timeout 60 "$lsvd" "$@" > "$out" 2>&1 < /dev/null || { echo "  exit code $?: lsvd $*"; show; return 1; }; ran; }
exits() {
	local want=$1 rc=0
	shift
	timeout 60 "$lsvd" "$@" > "$out" 2>&1 < /dev/null || rc=$?
	ran
	[ $rc = "$want" ] || { echo "  exit code $rc, not $want: lsvd $*"; show; return 1; }
}
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }

# s3 METHOD PATH[?QUERY]: one request without lsvd; prints the body.
s3() {
	curl -sf --aws-sigv4 "aws:amz:$AWS_REGION:s3" -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -X "$1" \
		-H 'x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' "$AWS_ENDPOINT_URL/$2"
}
# Every key under a prefix; in a query a slash is signed as %2F.
list() { s3 GET "bkt?list-type=2&prefix=${1//\//%2F}" | grep -oE '<Key>[^<]*|</ListBucketResult>' | sed 's/<Key>//'; }
# How many; -1 when the service does not answer.
keys() { echo $(($(list "$1" | wc -l) - 1)); }
empty() { [ "$(keys "$1")" = 0 ] || { echo "  left behind under '$1':"; list "$1" | head; return 1; }; }
fio_lsvd() {
	(cd "$tmp" && LSVD_ENGINE_DIR=$engine_dir timeout 100 "$top/fio-engine/fio-lsvd" --ioengine=lsvd --thread --name=t "$@") > "$out" 2>&1
}
need_engine() { [ -n "$engine_dir" ] || { echo "  no fio, or no engine built for it (make engine)"; return 77; }; }

conformance() {
	LSVD_TEST_STORES=s3:bkt/suite "$O/test/test_store" extra > "$out" 2>&1 || { show; return 1; }
	has '^test_store: [1-9][0-9]* passed, 0 failed, 0 skipped$' && empty suite/
}

life_of_an_image() {
	ok create s3:bkt/life/a --size 64M && ok ls s3:bkt/life && has '^a$' && ok info s3:bkt/life/a && has '64 MiB' || return
	head -c 20M /dev/urandom > "$tmp/raw"
	ok import -q "$tmp/raw" s3:bkt/life/b && ok fsck --data s3:bkt/life/b || return
	ok export -q s3:bkt/life/b "$tmp/raw2" && cmp "$tmp/raw" "$tmp/raw2" || return
	ok snap create s3:bkt/life/b@one && ok clone s3:bkt/life/b@one s3:bkt/life/c && ok tree s3:bkt/life || return
	ok rm s3:bkt/life/c && ok snap remove s3:bkt/life/b@one && ok rm s3:bkt/life/b && ok rm s3:bkt/life/a && empty life/
}

fio_verifies() {
	need_engine || return
	fio_lsvd --image=s3:bkt/fio/vm --create=256m --pool="file:$tmp/pool1" --set=pool.size=64M,pool.segment=1M,object.size=1M \
		--rw=randwrite --bs=4k-64k --bsrange=4k-64k --size=256m --io_size=64m --iodepth=16 --verify=crc32c --verify_fatal=1 ||
		{ show; return 1; }
	ok fsck --data s3:bkt/fio/vm && ok rm s3:bkt/fio/vm --pool "file:$tmp/pool1" && empty fio/
}

# As in kill9.sh: fio notes what it wrote, right before it kills itself.
kill_fio() {
	local common=(--image=s3:bkt/kill/vm --pool="file:$tmp/pool2" --set=pool.size=128M,pool.segment=1M,object.size=1M
		--bs=4k --size=1g --iodepth=16 --verify=crc32c) pid
	need_engine || return
	fio_lsvd "${common[@]}" --create=1g --rw=randwrite --rate=8m --do_verify=0 --verify_state_save=1 \
		--trigger-file="$tmp/trigger" --trigger='kill -9 $PPID' &
	pid=$!
	for _ in $(seq 300); do [ "$(keys kill/)" -le 5 ] || break; sleep 0.05; done
	touch "$tmp/trigger"
	wait $pid 2> /dev/null
	[ -s "$tmp/local-t-0-verify.state" ] || { echo "  fio left no state"; show; return 1; }
	# The lock of a process that died on this machine is free at once.
	fio_lsvd "${common[@]}" --rw=randread --verify_state_load=1 --verify_fatal=1 || { echo "  verify:"; show; return 1; }
	has 'READ: .*io=[1-9]' && ok fsck --data s3:bkt/kill/vm && ok rm s3:bkt/kill/vm --pool "file:$tmp/pool2" && empty kill/
}

service_dies_and_returns() {
	local pid
	need_engine || return
	fio_lsvd --image=s3:bkt/gone/vm --create=256m --pool="file:$tmp/pool3" --set=pool.size=256M,pool.segment=1M,object.size=1M \
		--rw=randwrite --bs=4k --size=256m --io_size=64m --rate=8m --iodepth=16 --verify=crc32c --verify_fatal=1 &
	pid=$!
	for _ in $(seq 200); do [ "$(keys gone/)" -le 5 ] || break; sleep 0.05; done
	ci/ceph signal "$tmp/c" rgw KILL && sleep 2 && ci/ceph start "$tmp/c" rgw || return
	wait $pid || { show; return 1; }
	for _ in $(seq 100); do s3 GET 'bkt?list-type=2' > /dev/null && break; sleep 0.1; done
	ok fsck --data s3:bkt/gone/vm && ok rm s3:bkt/gone/vm --pool "file:$tmp/pool3" && empty gone/
}

# time(2) of another day, for the signature.
wrong_clock() {
	cat > "$tmp/clock.c" <<- 'C'
	#include <time.h>
	time_t time(time_t *t) { struct timespec s; clock_gettime(CLOCK_REALTIME, &s); s.tv_sec += 86400; if (t) *t = s.tv_sec; return s.tv_sec; }
	C
	"${CC:-cc}" -shared -fPIC -o "$tmp/clock.so" "$tmp/clock.c" || return
	LD_PRELOAD=$tmp/clock.so exits 1 info s3:bkt/x/a && has "machine's clock" && has NTP
}

mistakes_have_messages() {
	exits 1 create s3:none/x/a --size 1M && has "bucket 'none' does not exist" || return
	AWS_SECRET_ACCESS_KEY=WrongSecret exits 1 info s3:bkt/x/a && has 'secret key does not belong' || return
	AWS_ACCESS_KEY_ID=Nobody exits 1 info s3:bkt/x/a && has 'access key is not known' || return
	AWS_ENDPOINT_URL=http://127.0.0.1:1 exits 1 info s3:bkt/x/a && has 'cannot be reached' || return
	(unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; exits 1 info s3:bkt/x/a && has 'no credentials') || return
	exits 1 info s3:bkt/x/a && has "no image" && wrong_clock
}

# The service on https, with an authority of its own.
tls() {
	[ -n "${CEPH_RGW_TLS_URL:-}" ] || { echo "  no openssl (package openssl)"; return 77; }
	local ca="--set=s3.ca_file=$CEPH_RGW_CA"
	export AWS_ENDPOINT_URL=$CEPH_RGW_TLS_URL
	head -c 3M /dev/urandom > "$tmp/tls1"
	ok import -q "$tmp/tls1" s3:bkt/tls/a "$ca" && AWS_CA_BUNDLE=$CEPH_RGW_CA ok fsck --data s3:bkt/tls/a || return
	ok export -q s3:bkt/tls/a "$tmp/tls2" --set=s3.verify=false && cmp "$tmp/tls1" "$tmp/tls2" || return
	# An authority that nobody told it; another one; a file that is none; a name that is not in the certificate.
	exits 1 info s3:bkt/tls/a && has 'certificate.*see the settings s3.ca_file and s3.verify' || return
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=another CA' -keyout "$tmp/ca.key" -out "$tmp/ca.pem" 2> "$out" || return
	exits 1 info s3:bkt/tls/a --set=s3.ca_file="$tmp/ca.pem" && has 'certificate.*see the settings s3.ca_file' || return
	exits 1 info s3:bkt/tls/a --set=s3.ca_file="$tmp/none.pem" && has "s3.ca_file" || return
	exits 1 info s3:bkt/tls/a "$ca" --set=s3.endpoint="${CEPH_RGW_TLS_URL/127.0.0.1/localhost}" && has "localhost.*see the settings" || return
	ok rm s3:bkt/tls/a "$ca"
}

credentials_file_and_settings() {
	local url=$AWS_ENDPOINT_URL key=$AWS_ACCESS_KEY_ID secret=$AWS_SECRET_ACCESS_KEY
	mkdir -p "$tmp/.aws" && printf '[other]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" > "$tmp/.aws/credentials"
	(
		unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL AWS_REGION
		export AWS_PROFILE=other
		ok create s3:bkt/conf/a --size 1M --set "s3.endpoint=$url" --set s3.region=default --set s3.addressing=path &&
			ok rm s3:bkt/conf/a --set "s3.endpoint=$url"
	) && rm -r "$tmp/.aws" && empty conf/
}

# Twenty images, two processes each, at once: one wins.
races_have_one_winner() {
	local i p q won
	for i in $(seq 20); do
		timeout 60 "$lsvd" create "s3:bkt/race/vm$i" --size 1M > "$tmp/race1" 2>&1 & p=$!
		timeout 60 "$lsvd" create "s3:bkt/race/vm$i" --size 1M > "$tmp/race2" 2>&1 & q=$!
		won=0
		wait $p && won=$((won + 1))
		wait $q && won=$((won + 1))
		cat "$tmp/race1" "$tmp/race2" >> "$all"
		[ $won = 1 ] || { echo "  round $i: $won winners"; cat "$tmp/race1" "$tmp/race2"; return 1; }
		grep -qE 'exists|in use|given back' "$tmp/race1" "$tmp/race2" || { echo "  round $i:"; cat "$tmp/race1" "$tmp/race2"; return 1; }
	done
	for i in $(seq 20); do ok rm "s3:bkt/race/vm$i" || return; done
	empty race/
}

# The writer stands still for longer than its lease; another one takes the image; the first one must learn it.
stopped_writer_is_fenced() {
	local pid rc=0
	need_engine || return
	(cd "$tmp" && LSVD_ENGINE_DIR=$engine_dir exec timeout 60 "$top/fio-engine/fio-lsvd" --ioengine=lsvd --thread --name=t \
		--image=s3:bkt/stop/vm --create=64m --pool="file:$tmp/pool4" --set=pool.size=64M,pool.segment=1M,object.size=1M,s3.lease_ms=2000,destage.age_ms=100 \
		--rw=randwrite --bs=4k --size=64m --rate=1m --time_based --runtime=25 --iodepth=4) > "$tmp/stopped" 2>&1 &
	pid=$!
	for _ in $(seq 200); do [ "$(keys stop/vm/)" -le 5 ] || break; sleep 0.05; done
	local fio
	fio=$(pgrep -P "$pid" | head -n 1)
	exits 1 gc s3:bkt/stop/vm --pool "file:$tmp/pool5" --set pool.size=64M && has 'in use by host .* pid' || return
	kill -STOP "$fio"
	for _ in $(seq 100); do
		rc=0
		exits 1 gc s3:bkt/stop/vm --pool "file:$tmp/pool5" --set pool.size=64M > /dev/null || rc=$?
		grep -q 'in use by' "$out" || break
		sleep 0.2
	done
	# It got the lock, and is told that the journal is elsewhere (I12): the choice is a person's.
	has 'not closed cleanly' || { kill -KILL "$fio"; return 1; }
	fio_lsvd --image=s3:bkt/stop/vm --no_journal=1 --pool="file:$tmp/pool5" --set=pool.size=64M --rw=randwrite --bs=4k --size=64m \
		--io_size=4m --verify=crc32c --verify_fatal=1 || { show; kill -KILL "$fio"; return 1; }
	kill -CONT "$fio"
	if wait $pid; then echo "  the first writer did not learn it"; tail -n 5 "$tmp/stopped"; return 1; fi
	grep -qiE 'taken over|stale' "$tmp/stopped" || { echo "  the first writer said:"; tail -n 8 "$tmp/stopped"; return 1; }
	# What it put before it learnt that is there, and nobody needs it.
	timeout 60 "$lsvd" fsck --data s3:bkt/stop/vm > "$out" 2>&1
	has ' 0 errors' && ok rm s3:bkt/stop/vm --pool "file:$tmp/pool5" && empty stop/
}

# Robbed by --steal, which waits for no lease: as in files.
image_is_stolen() {
	need_engine || return
	O=$O ci/tests/takeover.sh s3:bkt/steal > "$out" 2>&1 || { show; return 1; }
	has '^takeover: [1-9][0-9]* passed, 0 failed, 0 skipped$' && empty steal/
}

bench_cleans_up() {
	[ "$(keys bench/)" = 0 ] && ok store-bench s3:bkt/bench --size 1M --seconds 0.5 --json && has '"p999_us"' && has '"put"' && has '"spread_percent"' && empty bench/ || return
	ok store-bench s3:bkt/bench --size 1M --seconds 0.5 --phases put,range_4k && has '^range_4k ' && has '^delete ' || return
	if has '^(get|list|range_64k) ' > /dev/null; then echo "  more phases than asked for"; show; return 1; fi
	timeout --foreground -s INT 2 "$lsvd" store-bench s3:bkt/bench --size 1M --seconds 30 > "$out" 2>&1
	has interrupted && empty bench/
}

# In no output, trace, pool, state file or whatever else the tests have left; the cluster's own folder, which has them, aside;
# of the pools, two.
no_secret_is_told() {
	local trace=$tmp/secret.lsvdtrace
	AWS_SESSION_TOKEN=WrongToken exits 1 info s3:bkt/secret/a || return
	ok create s3:bkt/secret/a --size 16M && ok info s3:bkt/secret/a && ok config || return
	if [ -n "$engine_dir" ]; then
		fio_lsvd --image=s3:bkt/secret/a --pool="file:$tmp/pool6" --set=pool.size=64M,pool.segment=1M --trace="$trace" \
			--rw=randrw --bs=64k --size=16m || { show; return 1; }
		ok trace info "$trace" && has 'writes?' || return
	fi
	ok rm s3:bkt/secret/a --pool "file:$tmp/pool6" || return
	if grep -rlF -e "$AWS_SECRET_ACCESS_KEY" -e WrongSecret -e WrongToken "$tmp" --exclude-dir=c --exclude-dir=.aws --exclude="pool[2-5]" > "$tmp/told"; then
		echo "  a secret is in:"; cat "$tmp/told"
		return 1
	fi
	[ -s "$all" ]
}

tests='conformance life_of_an_image fio_verifies kill_fio service_dies_and_returns mistakes_have_messages tls credentials_file_and_settings
	races_have_one_winner stopped_writer_is_fenced image_is_stolen bench_cleans_up no_secret_is_told'
: > "$all"
echo '{}' > "$LSVD_SYSTEM_CONFIG"
if ! ci/ceph up "$tmp/c" -r -s memstore -g 8 > "$out" 2>&1; then
	echo "the cluster did not start"; show
	echo "s3: 0 passed, 1 failed, 0 skipped"
	exit 1
fi
eval "$(ci/ceph env "$tmp/c")"
export no_proxy=127.0.0.1
unset AWS_SESSION_TOKEN AWS_PROFILE AWS_SHARED_CREDENTIALS_FILE
s3 PUT bkt > "$out" 2>&1 || { echo "no bucket could be made"; show; echo "s3: 0 passed, 1 failed, 0 skipped"; exit 1; }
printf '{"pool": {"path": "file:%s/pool", "size": "64M", "segment": "1M"}}\n' "$tmp" > "$LSVD_SYSTEM_CONFIG"
http=$AWS_ENDPOINT_URL
for t in ${*:-$tests}; do
	began=$SECONDS rc=0
	export AWS_ENDPOINT_URL=$http
	$t || rc=$?
	cat "$out" >> "$all"
	case $rc in
	0) pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)" ;;
	77) skip=$((skip + 1)); echo "skipped $t" ;;
	*) fail=$((fail + 1)); echo "FAILED  $t" ;;
	esac
done
echo "s3: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
