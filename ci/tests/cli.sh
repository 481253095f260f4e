#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cli.sh [NAME...]: the tool's commands on images, and the example of lsvd(3); without NAME: all tests.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `cli: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-cli-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out pass=0 fail=0
export LSVD_SYSTEM_CONFIG=$tmp/system.json XDG_CONFIG_HOME=$tmp/config XDG_STATE_HOME=$tmp/state
printf '{"pool": {"path": "file:%s/pool", "size": "64M", "segment": "1M"}}\n' "$tmp" > "$LSVD_SYSTEM_CONFIG"

show() { sed 's/^/  | /' "$out" | tail -n 15; }
ok() { "$lsvd" "$@" > "$out" 2>&1 < /dev/null || { echo "  exit code $?: lsvd $*"; show; return 1; }; }
# exits CODE lsvd-arguments
exits() {
	local want=$1 rc=0
	shift
	"$lsvd" "$@" > "$out" 2>&1 < /dev/null || rc=$?
	[ $rc = "$want" ] || { echo "  exit code $rc, not $want: lsvd $*"; show; return 1; }
}
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }
lacks() { if grep -qE -- "$1" "$out"; then echo "  '$1' in:"; show; return 1; fi; }

commands_explain_themselves() {
	local c
	for c in create ls info stat rm resize gc import export config clone tree flatten fsck dump gc-sim reorg \
		'journal list' 'journal replay' 'journal discard' store-bench 'snap create' 'snap list' 'snap remove' 'snap rollback' 'trace info' 'trace replay'; do
		# shellcheck disable=SC2086
		ok $c --help && has "^Usage: lsvd $c " && has '^ *(example: )?lsvd ' && has '--json' || return
		# shellcheck disable=SC2086
		exits 2 $c --no-such-option || return
	done
	for c in create info stat rm resize gc import export clone tree flatten fsck dump gc-sim reorg journal store-bench snap 'snap create' trace; do
		# shellcheck disable=SC2086
		exits 2 $c || return
	done
	ok snap --help && has '^  rollback ' && exits 2 snap none && has "no command 'none'" || return
	exits 2 no-such-command && exits 2 && ok --help && ok --version || return
	# What could not be printed was not done.
	for c in config 'trace info --json' 'trace analyse --json -q' 'trace dump'; do
		# shellcheck disable=SC2086
		"$lsvd" $c $([ "$c" = config ] || echo workloads/boot/min-1.csv) > /dev/full 2> "$out"
		[ $? = 1 ] && has "stdout: No space left" || return
	done
	exits 1 trace analyse -q workloads/boot/min-1.csv --plot "$work/none/x.png" && has 'none/x.png.: No such file' && lacks PNG
}

life_of_an_image() {
	ok create "$s/a" --size 64M && ok create "$s/b" --size 1G || return
	ok ls "$s" && [ "$(cat "$out")" = "$(printf 'a\nb')" ] || return
	ok ls -l "$s" && has '^a +64 MiB' || return
	ok info "$s/a" && has '^size +64 MiB \(67108864 bytes\)' && has '^closed +cleanly' || return
	ok info "$s/a" --json && has '"size_bytes": 67108864' && has '"clean": true' || return
	ok ls "$s" --json && has '"name": "b"' || return
	ok resize "$s/a" 128M && ok info "$s/a" && has '^size +128 MiB' || return
	ok resize "$s/a" 32M && ok info "$s/a" && has '^size +32 MiB' || return
	ok stat "$s/a" && has '^statistics' && ok stat "$s/a" --json && has '"stats": \{' || return
	ok gc "$s/a" && ok gc "$s/a" --json --target 80 && has '"moved_bytes"' || return
	ok rm "$s/a" && ok ls "$s" && [ "$(cat "$out")" = b ] || return
	ok rm "$s/b" && [ -z "$(find "$work/store" -type f ! -name '.*')" ]
}

mistakes_are_refused() {
	exits 2 create "$s/a" && has 'add --size' || return
	exits 2 create "$s/a" --size 12Q || return
	exits 1 create "$s/a" --size 0 && exits 1 create "$s/a" --size 1000 && has '512' || return
	exits 1 create "$s/a" --size 300T || return
	exits 1 create "$s/.a" --size 1M && exits 1 create nonsense --size 1M && exits 1 create floppy:a --size 1M || return
	ok create "$s/a" --size 1M && exits 1 create "$s/a" --size 1M || return
	exits 1 info "$s/none" && has none && exits 1 rm "$s/none" && ok rm --force "$s/none" && exits 1 stat "$s/none" || return
	exits 1 resize "$s/a" 1000 && exits 2 resize "$s/a" big || return
	exits 2 info "$s/a" --set pool.sice=1 && has "did you mean 'pool.size'" || return
	exits 1 info "$s/a" --config "$work/none.json" && has none.json || return
	exits 2 gc "$s/a" --target 100
}

# A file of 20 MiB and some: data, holes, zeroes that are stored, an odd end.
make_raw() {
	truncate -s 20M "$1" &&
		dd if=/dev/urandom of="$1" bs=1M count=5 seek=1 conv=notrunc status=none &&
		dd if=/dev/zero of="$1" bs=1M count=2 seek=3 conv=notrunc status=none &&
		dd if=/dev/urandom of="$1" bs=4k count=1 seek=4001 conv=notrunc status=none &&
		dd if=/dev/urandom bs=100 count=1 status=none >> "$1"
}

import_and_export() {
	make_raw "$work/raw" || return
	ok import "$work/raw" "$s/a" && has 'imported 20.00 MiB, 3\.[0-9]+ MiB of it data' || return
	ok info "$s/a" --json && has '"size_bytes": 20972032' || return
	ok export "$s/a" "$work/back" || return
	truncate -s 20971620 "$work/back" && cmp "$work/raw" "$work/back" || return
	[ "$(stat -c %b "$work/back")" -le 8192 ] || { echo "  not sparse: $(stat -c %b "$work/back") blocks"; return 1; }
	exits 1 export "$s/a" "$work/back" && has '--force' && ok export --force "$s/a" "$work/back" || return
	"$lsvd" export "$s/a" - 2> /dev/null | cmp -n 20971620 - "$work/raw" || return
	exits 1 import "$work/raw" "$s/a" || return
	# shellcheck disable=SC2002
	cat "$work/raw" | "$lsvd" import -q - "$s/b" --size 32M && ok export "$s/b" "$work/b" && cmp -n 20971620 "$work/b" "$work/raw" || return
	[ "$(stat -c %s "$work/b")" = 33554432 ]
}

failed_copies_leave_nothing() {
	make_raw "$work/raw" || return
	exits 1 import "$work/none" "$s/a" || return
	: > "$work/empty"
	exits 1 import "$work/empty" "$s/a" && exits 1 import "$work/raw" "$s/a" --size 1M || return
	if "$lsvd" import -q - "$s/a" --size 1M < <(cat "$work/raw") 2> "$out"; then return 1; fi
	exits 2 import - "$s/a" || exits 1 import - "$s/a" || return
	exits 1 export "$s/none" "$work/x" && [ ! -e "$work/x" ] || return
	exits 1 import "$work/raw" "$s/a" --set journal.ram=4M && has 'journal.ram' || return
	"$lsvd" import -q - "$s/a" --size 64M < <(cat "$work/raw"; sleep 60) 2> "$out" &
	local pid=$! n=0
	until [ -n "$(find "$work/store" -newer "$out" -type f)" ] || [ $n = 100 ]; do sleep 0.1; n=$((n + 1)); done
	kill -INT $pid
	if wait $pid; then echo "  interrupted import succeeded"; return 1; fi
	has interrupted && ok ls "$s" && lacks .
}

configuration() {
	ok config && has '^pool.size +64M +/' && has '^object.size +8M +default' || return
	ok config pool.size && [ "$(cat "$out")" = 64M ] || return
	mkdir -p "$XDG_CONFIG_HOME/lsvd" && echo '{"images": {"file:/x/*": {"gc": {"plug": 0}}}}' > "$XDG_CONFIG_HOME/lsvd/lsvd.json" || return
	ok config --image file:/x/y && has '^gc.plug +0 +image section in ' && ok config && has '^gc.plug +8K +default' || return
	ok config --set gc.plug=16K --json && has '"origin": "option"' && ok config --long && has '^    local pool' || return
	exits 2 config pool.sice && has "did you mean 'pool.size'" || return
	echo '{' > "$XDG_CONFIG_HOME/lsvd/lsvd.json"
	exits 1 config && has 'lsvd.json.*line' || return
	rm "$XDG_CONFIG_HOME/lsvd/lsvd.json"
}

snapshots_and_clones() {
	head -c 3M /dev/urandom > "$work/one" || return
	ok import "$work/one" "$s/a" && ok snap create "$s/a@one" --json && has '"snapshot": "one"' || return
	exits 2 snap create "$s/a" && exits 1 snap create "$s/a@one" && has 'one' && exits 1 snap create "$s/none@x" || return
	ok resize "$s/a" 4M && ok snap create "$s/a@big" || return
	ok snap list "$s/a" && has '^one +3 MiB' && has '^big +4 MiB' && ok snap list "$s/a" --json && has '"name": "one"' || return
	"$lsvd" export -q "$s/a@one" - | cmp - "$work/one" || return
	ok clone "$s/a@one" "$s/c" --json && has '"of": ".*/a@one"' && ok clone "$s/c" "$s/d" || return
	exits 1 clone "$s/a@none" "$s/e" && has "no snapshot 'none'" && exits 1 clone "$s/a@one" "$s/c" && has 'exists' || return
	ok tree "$s" && has '^a$' && has '^    c$' && has '^ +d$' && ok tree "$s" --json && has '"base": "a"' || return
	exits 1 rm "$s/a" && has 'clone: c' && exits 1 snap remove "$s/a@one" && has 'clone: c' && exits 1 rm "$s/c" && has 'clone: d' || return
	ok snap remove "$s/a@big" --json && has '"snapshot": "big"' && ok snap list "$s/a" && lacks '^big' || return
	exits 1 flatten "$s/c" && has 'snapshots need the base' || return
	ok flatten "$s/d" --json && has '"copied_bytes": 3145728' && ok info "$s/d" --json && has '"base": ""' || return
	ok flatten "$s/c" && ok info "$s/c" --json && has '"base": ""' || return
	ok snap rollback "$s/a@one" --json && has '"snapshot": "one"' && exits 1 snap rollback "$s/a@big" || return
	ok info "$s/a" && has '^size +3 MiB' && "$lsvd" export -q "$s/a" - | cmp - "$work/one" || return
	ok snap remove "$s/a@one" && ok rm "$s/a" && ok rm "$s/c" && "$lsvd" export -q "$s/d" - | cmp - "$work/one" || return
	ok fsck --data "$s/d" && ok rm "$s/d" || return
	[ -z "$(find "$work/store" -type f ! -name '.*')" ]
}

# Random writes over 64 MiB, 16 times.
policies_are_compared() {
	awk 'BEGIN { srand(7); print "submit_ns,complete_ns,op,offset_bytes,len_bytes"
		for (i = 0; i < 65536; i++) printf "%d,%d,W,%d,16384\n", i * 1000, i * 1000 + 500, int(rand() * rand() * 4096) * 16384 }' \
		> "$work/t.csv" && ok trace import "$work/t.csv" "$work/t" || return
	ok gc-sim --set object.size=1M "$work/t" && has '^policy .*WA .*merged .*extents .*map .*PUTs .*GETs' || return
	for p in greedy cost-benefit sepbit; do
		has "^$p +[1-9]" || return
	done
	ok gc-sim --json --set object.size=1M "$work/t" || return
	for k in write_amplification merge_ratio extents map_bytes gets puts; do has "\"$k\"" || return; done
	exits 1 gc-sim "$work/none" && exits 2 gc-sim --set gc.policy=none "$work/t"
}

# compile FILE.c -> FILE; SAN: the sanitizers that the library was built with
compile() {
	# shellcheck disable=SC2086
	${CC:-gcc} -Wall -Werror ${SAN:-} -Icore -o "${1%.c}" "$1" "$O/liblsvd.a" -luring -ljansson -lisal -lpthread -lm > "$out" 2>&1 || { show; return 1; }
}

# create, ls, info, import and export work while another process has the pool and an image; what needs the pool, or that
# image, says who has it.
beside_a_running_process() {
	cat > "$work/hold.c" <<-'END'
		#include <err.h>
		#include <lsvd.h>
		#include <stdio.h>
		#include <string.h>
		int main(int argc, char **argv)
		{
			struct lsvd_config *cfg;
			struct lsvd_ctx *ctx;
			struct lsvd_image *img;
			char why[LSVD_ERR_MAX], buf[4096];

			memset(buf, 7, sizeof(buf));
			if (argc != 2 || !(cfg = lsvd_config_new(why)) || lsvd_ctx_open(cfg, LSVD_DRIVE_THREAD, &ctx, why) < 0 ||
				lsvd_image_open(ctx, argv[1], 0, &img, why) < 0)
				errx(1, "%s", why);
			if (lsvd_pwrite(img, buf, sizeof(buf), 0) < 0)
				errx(1, "write");
			puts("ready");
			fflush(stdout);
			getchar();
			if (lsvd_image_close(img, why) < 0)
				errx(1, "%s", why);
			lsvd_ctx_close(ctx);
			lsvd_config_free(cfg);
		}
	END
	compile "$work/hold.c" && ok create "$s/a" --size 1M && ok create "$s/b" --size 1M && mkfifo "$work/in" "$work/ready" || return
	"$work/hold" "$s/a" < "$work/in" > "$work/ready" 2>&1 &
	local pid=$! rc=0 line
	exec 9> "$work/in"
	read -r line < "$work/ready"
	[ "$line" = ready ] || { echo "  $line"; return 1; }
	truncate -s 1M "$work/raw"
	ok create "$s/c" --size 1M && ok ls -l "$s" && has '^a .*not clean' && ok info "$s/a" && ok export "$s/b" "$work/b" || rc=1
	ok import "$work/raw" "$s/d" && ok export --no-journal "$s/a" "$work/old" && ok stat "$s/a" || rc=1
	exits 1 export "$s/a" "$work/a" && has 'in use|another process|belongs' && [ ! -e "$work/a" ] || rc=1
	exits 1 resize "$s/b" 2M && has 'in use|another process|belongs' || rc=1
	exits 1 resize --pool mem:64M "$s/a" 2M && has "pid $pid" || rc=1
	exits 1 rm --pool mem:64M "$s/a" && has "pid $pid" || rc=1
	exec 9>&-
	wait $pid || rc=1
	[ $rc = 0 ] || return 1
	"$work/hold" "$s/a" < "$work/in" > "$work/ready" 2>&1 &
	pid=$!
	exec 9> "$work/in"
	read -r line < "$work/ready"
	kill -9 $pid
	wait $pid
	exec 9>&-
	# Its journal is listed, with what it is worth, and replayed.
	ok journal list && has '^[0-9a-f-]{36}  epoch [0-9]+  records 1 .* unknown$' && ok journal list "$s" && has 'dirty +file:' || return
	ok journal list "$s/a" --json && has '"state": "dirty"' && has '"records": 1' && exits 1 journal discard "$s/a" && has 'not in the store, and lost' || return
	ok info "$s/a" && has 'not cleanly' && exits 1 export --pool mem:64M "$s/a" "$work/a" && [ ! -e "$work/a" ] || return
	ok resize "$s/b" 2M && ok export "$s/a" "$work/a" && cmp -n 4096 "$work/a" <(head -c 4096 /dev/zero | tr '\0' '\7') || rc=1
	[ $rc = 0 ] || return 1
	ok journal list && [ ! -s "$out" ] && exits 1 journal discard "$s/a" --yes && has 'has no journal of' || return
	# The journal is lost: each command that opens the image says what to do, and does it when told.
	for c in "resize $s/a 2M" "gc $s/a" "trace replay $work/one.csv $s/a"; do
		"$work/hold" "$s/a" < "$work/in" > "$work/ready" 2>&1 &
		pid=$!
		exec 9> "$work/in"
		read -r line < "$work/ready"
		kill -9 $pid
		wait $pid 2> /dev/null
		exec 9>&-
		rm "$tmp/pool"
		printf 'submit_ns,complete_ns,op,offset_bytes,len_bytes\n0,1000,W,0,4096\n' > "$work/one.csv"
		# shellcheck disable=SC2086
		exits 1 $c && has 'no-journal' && ok $c --no-journal && ok info "$s/a" && has '^closed +cleanly' || return
	done
}

man_page_example() {
	sed -n '/^#include <err.h>/,/^}/p' docs/lsvd.3 | sed 's/\\e/\\/g' > "$work/x.c"
	compile "$work/x.c" || return
	"$work/x" > "$out" 2>&1 || { show; return 1; }
}

tests=(commands_explain_themselves life_of_an_image mistakes_are_refused import_and_export failed_copies_leave_nothing
	snapshots_and_clones policies_are_compared configuration beside_a_running_process man_page_example)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	work=$tmp/$t s=file:$tmp/$t/store
	mkdir "$work"
	began=$SECONDS
	if ("$t"); then pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)"
	else fail=$((fail + 1)); echo "FAILED  $t"
	fi
	rm -rf "$work"
done
echo "cli: $pass passed, $fail failed, 0 skipped"
[ $fail = 0 ]
