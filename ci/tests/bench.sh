#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# bench.sh [NAME...]: ci/bench --against and ci/bench-commits, in a small repository whose "benchmark" is a script; and the
# commands that judge results.  Without NAME: all tests.
#
# The repository's commits: base, same (equal speed), broken (does not build), slow (a tenth slower, two more GETs).  Its noise
# is of a fixed seed.  O is the build folder.
# Last line: `bench: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-bench-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out repo=$tmp/repo pass=0 fail=0
unset O

show() { sed 's/^/  | /' "$out" | tail -n 20; }
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }
lacks() { if grep -qE -- "$1" "$out"; then echo "  '$1' in:"; show; return 1; fi; }
exits() { # CODE COMMAND...
	local want=$1 rc=0
	shift
	"$@" > "$out" 2>&1 < /dev/null || rc=$?
	[ $rc = "$want" ] || { echo "  exit code $rc, not $want: $*"; show; return 1; }
}
in_repo() { (cd "$repo" && "$@"); }
git_here() { git -C "$repo" -c safe.directory='*' -c user.name=t -c user.email=t@t -c commit.gpgsign=false "$@"; }

commit() { # MESSAGE SPEED GETS
	echo "speed=$2 gets=$3" > "$repo/speed"
	git_here add -A && git_here commit -q --allow-empty -m "$1"
}

# A runner: iops with 3 % of noise, other in each process, and an exact count.
make_repo() {
	mkdir -p "$repo/ci" && cp ci/bench ci/bench-ab ci/bench-tree ci/bench-commits "$repo/ci/" || return
	printf 'build\nresults\n' > "$repo/.gitignore"
	cat > "$repo/Makefile" <<-EOF
		O ?= build
		all bench-runner: made
		made:
		 @grep -q '^speed=[0-9]' speed
		 @[ ! -e "$tmp/wait" ] || ! grep -q 90000 speed || sleep 1.1
		 @mkdir -p \$(O) && ln -sf "$lsvd" \$(O)/lsvd && cp runner speed \$(O)/ && mv \$(O)/runner \$(O)/ci-bench
	EOF
	sed -i 's/^ @/\t@/' "$repo/Makefile"
	cat > "$repo/runner" <<-EOF
		#!/bin/bash
		profile=quick dirty='' page='' only=''
		for a in "\$@"; do
			case \$a in
			--help) echo "  --no-page"; exit ;;
			--commit=*) commit=\${a#*=} ;;
			--data=*) data=\${a#*=} ;;
			--only=*) only=\${a#*=} ;;
			--dirty) dirty=--dirty ;;
			esac
		done
		. "\$(dirname "\$0")/speed"
		n=\$(cat "$tmp/count" 2> /dev/null || echo 0)
		echo \$((n + 1)) > "$tmp/count"
		[ "\$only" != fails ] || { echo "no such disk"; exit 1; }
		noise=\$((n * 7919 % 61 - 30))
		{ echo "x.iops iops higher \$((speed * (1000 + noise) / 1000))"; echo "x.gets count lower \$gets"; } |
			"$lsvd" results record --dir "\$data" --commit "\$commit" \$dirty > /dev/null
	EOF
	chmod +x "$repo/runner"
	git_here init -q && commit base 100000 20 && commit same 100000 20 && commit broken broken 20 && commit slow 90000 22
}

# A result's name has seconds: the second pair begins in another than the first.
commits_are_measured_beside_their_parents() {
	touch "$tmp/wait"
	exits 1 in_repo ci/bench-commits HEAD~3..HEAD --rounds 12 || return
	rm "$tmp/wait"
	has '^== [0-9a-f]+ same: beside' && has '^== [0-9a-f]+ broken: beside' || return
	has 'does not build' && has 'left out: [0-9a-f]+ broken' || return
	has '^0 better, 0 worse, 0 changed, 2 the same' || return
	has '^worse +x.iops .* ratio 0\.[89][0-9]*, ' && has '^worse +x.gets .*20 -> 22 ' || return
	has '^bench-commits: 2 measured, 0 measured before, 1 left out' || return
	[ "$(find "$repo/results/data" -name '*.json' | wc -l)" = 4 ] || { echo "  not 4 files in results/data"; return 1; }
	exits 0 "$lsvd" results check "$repo"/results/data/*.json || return
	[ -z "$(git_here worktree list | tail -n +2)" ] || { echo "  a worktree is left"; return 1; }
}

what_was_measured_is_not_measured_again() {
	local before
	before=$(cat "$tmp/count")
	exits 1 in_repo ci/bench-commits HEAD~3..HEAD --rounds 12 || return
	has 'same: measured before' && has '^worse +x.iops' && has '0 measured, 2 measured before, 1 left out' || return
	[ "$(cat "$tmp/count")" = "$before" ] || { echo "  something was measured"; return 1; }
}

an_interrupted_run_goes_on() {
	local before work
	exits 0 in_repo ci/bench --against HEAD~3 --rounds 8 || return
	work=$(echo "$repo"/build/bench-against/*)
	before=$(cat "$tmp/count")
	rm "$work/round-5/whole"
	exits 0 in_repo ci/bench --against HEAD~3 --rounds 8 || return
	lacks 'round 4 of' && has 'round 5 of 8' && lacks 'round 6 of' || return
	[ "$(cat "$tmp/count")" = $((before + 2)) ] || { echo "  not one round"; return 1; }
}

a_working_tree_is_judged() {
	echo "speed=80000 gets=20" > "$repo/speed"
	exits 1 in_repo ci/bench --against HEAD~3 --rounds=12 --fail-on-worse || return
	git_here checkout -q speed
	has '^worse +x.iops .* ratio 0\.[78]' && lacks '^worse +x.gets' && has '^B: .*-dirty\.json$' || return
}

few_rounds_say_that_they_cannot_tell() {
	exits 0 in_repo ci/bench --against HEAD~3 --rounds 3 || return
	has '^2 undecided: too few rounds \(--alpha 0.01 needs 8\)' && lacks '^worse' || return
}

bad_input_is_named() {
	exits 2 in_repo ci/bench --against nonsense && has "'nonsense' is no commit" || return
	exits 2 in_repo ci/bench --against HEAD --rounds x && has "'x' is not a number" || return
	exits 2 in_repo ci/bench-commits nonsense && has 'no range of commits' || return
	exits 2 in_repo ci/bench-commits HEAD..HEAD && has 'no commit is in' || return
	exits 2 in_repo ci/bench-commits --nonsense || return
	exits 1 in_repo ci/bench --against HEAD~1 --rounds 1 && has 'does not build' || return
	exits 1 in_repo ci/bench --against HEAD --rounds 1 --only fails && has 'no such disk' || return
}

results_are_merged_gated_and_exported() {
	local d=$tmp/r a
	for a in 1 2; do
		printf 'x.gets count lower %s\nx.iops iops higher 5\n' "$a" | "$lsvd" results record --dir "$d/$a" --commit abcdef0 > /dev/null || return
	done
	exits 0 "$lsvd" results merge -o "$d/all" "$d"/1/*.json "$d"/2/*.json || return
	exits 0 "$lsvd" results get x.gets "$(cat "$out")" && has '^1.5$' || return
	exits 1 "$lsvd" results merge "$d"/1/*.json && has '-o DIR is missing' || return
	exits 1 "$lsvd" results merge -o "$d/1" "$d"/1/*.json && has 'exists' || return
	echo '{"x.gets": {"most": 1.4, "tolerance_percent": 1}, "y": {"most": 1, "tolerance_percent": 0}}' > "$d/budget"
	exits 1 "$lsvd" results gate -d "$d/all" latest "$d/budget" || return
	has 'x.gets: measured 1.5, allowed 1.414 \(most 1.4, tolerance 1 %\)' && has 'y: was not measured' || return
	echo '{"x.gets": {"most": 1.5, "tolerance_percent": 0}}' > "$d/budget"
	exits 0 "$lsvd" results gate -d "$d/all" latest "$d/budget" && has '1 figures, 0 over' || return
	exits 1 "$lsvd" results gate -d "$d/all" latest "$d/nothing" && has 'No such file' || return
	exits 0 "$lsvd" results export -d "$d/all" --format bencher && has '"upper_value": 2' || return
	exits 0 "$lsvd" results export -d "$d/all" --format github-action-benchmark --better lower && has '"name": "x.gets"' && lacks x.iops || return
	exits 2 "$lsvd" results export -d "$d/all" --format github-action-benchmark && has '--better higher' || return
	exits 2 "$lsvd" results export -d "$d/all" --format xml || return
}

history_is_printed_in_the_order_of_commits() {
	git_here rev-list --reverse HEAD > "$tmp/order"
	exits 0 "$lsvd" results history -d "$repo/results/data" --order "$tmp/order" --figure 'x.gets' || return
	has '^x.gets \(count, better lower\): 4 runs' || return
	echo HEAD > "$tmp/order"
	exits 1 "$lsvd" results history -d "$repo/results/data" --order "$tmp/order" && has "'HEAD' is not a commit" || return
	exits 1 "$lsvd" results history -d "$repo/results/data" --figure 'nothing*' && has "matches 'nothing" || return
	exits 0 "$lsvd" results history -d "$repo/results/data" --json && has '"changes"' || return
}

make_repo > "$out" 2>&1 || { echo "bench: the repository cannot be made:"; show; echo "bench: 0 passed, 1 failed, 0 skipped"; exit 1; }
all='commits_are_measured_beside_their_parents what_was_measured_is_not_measured_again an_interrupted_run_goes_on
	a_working_tree_is_judged few_rounds_say_that_they_cannot_tell bad_input_is_named results_are_merged_gated_and_exported
	history_is_printed_in_the_order_of_commits'
[ $# -gt 0 ] || set -- $all
for t in "$@"; do
	if "$t"; then echo "ok   $t"; pass=$((pass + 1)); else echo "FAIL $t"; fail=$((fail + 1)); fi
done
echo "bench: $pass passed, $fail failed, 0 skipped"
[ $fail = 0 ] && [ $pass -gt 0 ]
