#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# page.sh [NAME...]: the pages of `lsvd results report` in a real browser (Chromium, headless); without NAME: all tests.
#
# Each page is shown 1280 and 400 pixels wide, light and dark, from a file, where there is no network.  What is wrong with it
# is found by a script beside it (probe); pages that are broken on purpose must be found out.  The figures of some pages are
# made up here and say so.  PAGE_SHOTS=DIR keeps screenshots there.
#
# Everything lives in a folder under ${TMPDIR:-/var/tmp} that is removed at the end.  O is the build folder.
# Last line: `page: N passed, N failed, N skipped`; exit code 0 when none failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
O=${O:-build}
lsvd=$(cd "$O" && pwd)/lsvd
pass=0 fail=0
skip_all() { echo "skipped all: $*"; echo "page: 0 passed, 0 failed, 1 skipped"; exit 0; }
browser=$(command -v chromium || command -v chromium-headless-shell) || skip_all "no chromium (ci/setup test)"
command -v gnuplot > /dev/null || skip_all "no gnuplot (ci/setup test)"
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/lsvd-page-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
out=$tmp/out
alone=() # what runs a command without a network
for u in 'unshare -n' 'unshare -rn'; do $u true 2> /dev/null && { read -ra alone <<< "$u"; break; }; done

show() { sed 's/^/  | /' "$out" | tail -n 15; }
ok() { "$lsvd" "$@" > "$out" 2>&1 < /dev/null || { echo "  exit code $?: lsvd $*"; show; return 1; }; }
has() { grep -qE -- "$1" "$out" || { echo "  no '$1' in:"; show; return 1; }; }

# ---- figures that nobody measured ----

# made_up DIR RUN LEAD: a result file with every figure of SCHEMA.md; of a run, a day after the one before, by LEAD better.
made_up() {
	local commit when
	mkdir -p "$1"
	commit=$(printf '%08x' $((0x10000019 * ($2 + 1))))
	when=$(date -u -d "2001-01-01 + $2 days" +%Y-%m-%dT%H:%M:%SZ)
	awk -v commit="$commit" -v when="$when" -v run="$2" -v lead="$3" '
	function put(name, unit, better, v, params) { # three rounds, some percent apart
		s = name ~ /^boot/ ? 0 : 0.02 + 0.01 * ((n * 7 + run * 5) % 4)
		lo = sprintf("%.6f", v * (1 - s)); mid = sprintf("%.6f", v); hi = sprintf("%.6f", v * (1 + 1.3 * s))
		printf "%s\n{\"name\":\"%s\",\"unit\":\"%s\",\"direction\":\"%s\",\"samples\":[%s,%s,%s],\"median\":%s,\"low\":%s,\"high\":%s,\"params\":{%s}}",
			n++ ? "," : "", name, unit, better, mid, hi, lo, mid, lo, hi, params
	}
	function side(name, better, iops, kib, params) {
		put(name ".iops", "iops", better ? better : "none", iops, params)
		put(name ".bw_mib_s", "MiB/s", better ? better : "none", iops * kib / 1024, params)
		split("p50_us 0.7 p99_us 2.5 p999_us 9", a, " ")
		for (k = 1; k < 6; k += 2) put(name "." a[k], "us", better ? "lower" : "none", 32e6 / iops * a[k + 1], params)
	}
	function pair(name, other, ratio, v, w, kib, params, others) {
		side(name ".lsvd", "higher", v, kib, params); side(name "." other, "", w, kib, others)
		put(name "." ratio, "ratio", "higher", v / w, params)
	}
	function ratios(list, better,  i, m, a) { m = split(list, a, " "); for (i = 1; i < m; i += 2) put(a[i], "ratio", better, a[i + 1] * lead) }
	function counts(list, unit,  i, m, a) { m = split(list, a, " "); for (i = 1; i < m; i += 2) put(a[i], unit, "lower", a[i + 1] / lead) }
	function cell(name, v, w, kib,  job) {
		job = "\"region_mib\":2048,\"job\":\"[global] ioengine=%s filename=" long " rw=" name " iodepth=32 # \\\"made up\\\" <&>\""
		pair("ceph." name, "rbd", "ratio_rbd", v * lead, w, kib, sprintf(job, "lsvd"), sprintf(job, "rbd"))
		side("s3." name ".lsvd", "higher", v * 0.9 * lead, kib, sprintf(job, "lsvd:s3")); put("s3." name ".ratio_rados", "ratio", "higher", 0.9)
	}
	BEGIN {
		long = sprintf("%90s", ""); gsub(/ /, "x", long)
		drift = 1 + 0.004 * (run * 7 % 5); lead *= drift
		printf "{\"schema\":1,\"time\":\"%s\",\"commit\":\"%s\",\"dirty\":%s,\"profile\":\"full\",", when, commit, run % 5 == 3 ? "true" : "false"
		printf "\"machine\":{\"cpu\":\"made up, <2 cores> & not \\\"measured\\\"\",\"cores\":2,\"memory_bytes\":8589934592,"
		printf "\"kernel\":\"0.0\",\"disk\":\"made up-" long "\",\"filesystem\":\"none\"},\"versions\":{\"lsvd\":\"0.0-made-up\",\"fio\":\"0.0\"},\"figures\":["
		split("randwrite 1.7 randread 0.95 write 0.55 read 0.9 randrw 1.2", rws, " "); split("4 16 64", kibs, " "); split("1 32 128", qds, " ")
		for (i = 1; i < 10; i += 2) for (b = 1; b <= 3; b++) for (d = 1; d <= 3; d++) {
			w = 12345 * (d == 1 ? 1 : d == 2 ? 8.1 : 11) * 6 / (6 + kibs[b] / 4)
			pair("fio." rws[i] "." kibs[b] "k.qd" qds[d], "raw", "ratio_raw", w * rws[i + 1] * lead, w, kibs[b])
		}
		w = "fio.randwrite.4k.qd"
		ratios(w "1.fsync.ratio_raw 1.1 " w "1.8jobs.fsync.ratio_raw 2.2 " w "32.sustained.ratio_raw 1.62 " w "128.sustained.ratio_raw 2.5 " \
			"gc.foreground.iops_ratio 0.93 import.ratio_cp 0.85 export.ratio_cp 0.42 reorg.ratio_cp 0.6", "higher")
		ratios(w "32.sustained.p99_ratio_raw 0.8 " w "32.sustained.p999_ratio_raw 0.9 " w "128.sustained.p99_ratio_raw 0.7 gc.foreground.p99_ratio 1.7", "lower")
		for (i = 0; i < 2; i++) {
			w = "mem." (i ? "read" : "write") ".4k.qd32."
			put(w "iops", "iops", "higher", (520e3 + 320e3 * i) * lead); put(w "cpu_ns", "ns", "lower", (1380 - 620 * i) / lead)
			counts(w "syscalls_per_io 0.031 " w "allocs_per_io 0", "count"); ratios(w "4jobs.ratio_inline 0.95 " w "2loops.ratio_one 1.8", "higher")
		}
		put("open.crash.s", "s", "lower", 1.3); put("open.extents.s", "s", "lower", 0.7); put("open.crash.replay_mib_s", "MiB/s", "higher", 777)
		put("images.first.memory_mib", "MiB", "lower", 5.5); put("images.1000.memory_mib_each", "MiB", "lower", 4.4)
		counts("images.1000.open_s 2.2 images.1000.last_open_s 0.0021 images.1000.io_s 3 images.1000.close_s 1.1", "s")
		m = split("ssd mem two_ssd remote_mem two_remote", legs, " ")
		for (i = 1; i <= m; i++) for (d = 1; d < 3; d++) {
			w = "legs." legs[i] ".4k.qd" qds[d] "."; v = 21000 * (d == 1 ? 1 : 7) * (6 - i) / 3
			put(w "iops", "iops", "higher", v); put(w "p50_us", "us", "lower", 7e5 / v * qds[d]); put(w "p99_us", "us", "lower", 3e6 / v * qds[d])
		}
		cell("randwrite.4k.qd32", 87654, 2143, 4); cell("randwrite.4k.qd1.fsync", 3210, 876, 4); cell("write.64k.qd32", 6543, 1357, 64)
		cell("randread.4k.qd32.uncached", 7531, 8642, 4); cell("randread.4k.qd32.cached", 154321, 8765, 4)
		counts("ceph.osd_ops_per_write 0.00077 ceph.rbd_osd_ops_per_write 1.02 s3.osd_ops_per_write 0.0021", "count")
		counts("ceph.osd_cpu_us_per_write.lsvd 11 s3.osd_cpu_us_per_write.lsvd 17", "us"); put("ceph.osd_cpu_us_per_write.rbd", "us", "none", 345)
		put("ceph.osd_cpu_ratio_rbd", "ratio", "lower", 0.032); put("s3.osd_cpu_ratio_rados", "ratio", "lower", 1.6)
		for (i = 0; i < 2; i++) {
			w = i ? "s3.drain." : "ceph.drain."; v = "\"store_bench\":\"lsvd store-bench " (i ? "s3:" : "rados:") "made-up\""
			put(w "mib_s", "MiB/s", "higher", 234 - 50 * i, v); put(w "store_bench_mib_s", "MiB/s", "none", 256 - 50 * i, v); put(w "ratio_store_bench", "ratio", "higher", 0.91, v)
		}
		m = split("original 1330 readahead 420 reorg 380 reorg_prefetch 22 warm 0", vs, " "); split("0.5 5 20 50", ms, " ")
		for (i = 1; i < m; i += 2) for (d = 1; d <= 4; d++) {
			w = "boot." vs[i] "." ms[d] "ms."; v = int(vs[i + 1] / (vs[i] == "reorg_prefetch" ? lead / drift : 1)); exact = "\"exact\":true"
			put(w "gets", "count", "lower", v, exact); put(w "bytes", "bytes", "lower", v * 65536, exact)
			put(w "outstanding_ms", "ms", "lower", v * ms[d] + 11, exact); put(w "wasted_bytes", "bytes", "lower", i == 3 ? 14e6 : i > 6 ? 0 : 5e5, exact)
			if (i > 1) { put(w "gets_ratio_original", "ratio", "lower", v / 1330, exact); put(w "outstanding_ratio_original", "ratio", "lower", v / 1330, exact) }
		}
		put("trace.cpu_overhead_percent", "percent", "lower", 1.7 / lead)
		print "]}"
	}' > "$1/$(echo "$when" | tr -d ':-')-$(echo "$commit" | cut -c 1-7)$([ $(($2 % 5)) != 3 ] || echo -dirty).json"
}

# report PAGE LSVD-ARGUMENTS: makes $work/PAGE.
report() {
	local page=$1
	shift
	ok results report -o "$work/$page" "$@" && [ -s "$work/$page/index.html" ]
}

# ---- the browser ----

# run_browser ARGUMENTS; its messages are in $work/said.  Root, and who is root in a namespace, has no sandbox; the pages are ours.
run_browser() {
	local dir rc=0
	dir=$(mktemp -d "$tmp/browser-XXXXXX")
	HOME=$dir timeout -k 5 120 "${alone[@]}" "$browser" --no-sandbox --headless --disable-gpu --disable-quic --no-first-run --disable-background-networking \
		--disable-component-update --disable-sync --host-resolver-rules='MAP * ~NOTFOUND' --user-data-dir="$dir" --hide-scrollbars \
		--allow-file-access-from-files --enable-logging=stderr "$@" 2> "$work/said" < /dev/null || rc=$?
	rm -rf "$dir"
	[ $rc = 0 ] || { echo "  $browser: exit code $rc"; sed 's/^/  | /' "$work/said" | grep -v dbus | tail -n 5; return 1; }
}

# The script that looks at the pages NAME, each in a frame of 1280 and one of 400 pixels, first as it opens, then unfolded.
probe_page() { # DARK NAME...
	local dark=$1 p svg size
	shift
	echo '<!doctype html><meta charset="utf-8"><body><pre id="found"></pre>'
	for p; do for w in 1280 400; do echo "<iframe data-page='$p' data-width='$w' width='$w' height='900' style='border:0' src='$p/index.html'></iframe>"; done; done
	echo "<script>const dark = $dark, letters = {"
	for p; do
		for svg in "$work/$p"/plots/*.svg; do # the smallest letters of each picture
			size=$(grep -o 'font-size="[0-9.]*"' "$svg" | tr -dc '0-9.\n' | sort -n | head -n 1)
			[ ! -e "$svg" ] || echo "'$p/plots/$(basename "$svg")': ${size:-0},"
		done
	done
	cat <<- 'END'
	};
	const lines = [];
	function look(page, width, win, doc) {
		const bad = (what, why) => lines.push(`${page}: BAD ${what} ${width}: ${why}`);
		const root = doc.documentElement, walk = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
		let texts = 0;
		if (win.innerWidth != width) bad('frame', `${win.innerWidth} wide`);
		if (dark != (win.getComputedStyle(doc.body).backgroundColor != 'rgb(255, 255, 255)')) bad('theme', win.getComputedStyle(doc.body).backgroundColor);
		if (root.scrollWidth > win.innerWidth) bad('sideways', `scrolls to ${root.scrollWidth}`);
		for (let t; (t = walk.nextNode());) {
			const e = t.parentElement, size = parseFloat(win.getComputedStyle(e).fontSize);
			if (!t.data.trim() || e.closest('svg, script, style') || !e.getClientRects().length) continue;
			texts++;
			if (size < 11) bad('small', `${size}: ${t.data.trim().slice(0, 40)}`);
		}
		for (const i of doc.images) {
			const name = i.currentSrc.split('/').slice(-3).join('/'), size = letters[name] * i.clientWidth / i.getAttribute('width');
			if (!i.complete || !i.naturalWidth) bad('picture', `${i.currentSrc} is not there`);
			else if (!(size >= 8)) bad('letters', `${name}: the smallest are ${size}`);
			if (dark != name.endsWith('-dark.svg')) bad('theme', name);
			if (!i.alt) bad('alt', name);
		}
		for (const r of win.performance.getEntriesByType('resource'))
			if (!r.name.startsWith('file:')) bad('network', r.name);
		lines.push(`${page}: looked ${width}: ${texts} texts, ${doc.images.length} pictures`);
	}
	addEventListener('load', () => {
		for (const f of document.querySelectorAll('iframe')) {
			const win = f.contentWindow, doc = f.contentDocument, {page, width} = f.dataset;
			look(page, width, win, doc);
			for (const d of doc.querySelectorAll('details')) d.open = true;
			look(page, width, win, doc);
			if (width > 400) for (const line of doc.body.innerText.split('\n')) lines.push(`${page}: TEXT ${line}`);
		}
		document.getElementById('found').textContent = '\n' + lines.join('\n') + '\n';
		for (const f of document.querySelectorAll('iframe')) f.remove();
	});
	</script>
	END
}

# look light|dark PAGE...: what the probe finds is in $out, "PAGE: ..." a line; so is whatever the console was told.
look() {
	local dark=false args=() n
	[ "$1" = light ] || { dark=true args=(--blink-settings=preferredColorScheme=0); }
	shift
	n=$(probe_page $dark "$@" | tee "$work/probe.html" | grep -c '^<iframe')
	run_browser "${args[@]}" --dump-dom "file://$work/probe.html" > "$work/dom" || return
	sed -n '/<pre id="found">/,/<\/pre>/p' "$work/dom" | sed 's/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g' > "$out"
	sed -nE 's/.*:CONSOLE[:(][0-9)]*\] (.*), source: file:.*\/([^/]+)\/index\.html.*/\2: BAD console: \1/p' "$work/said" >> "$out"
	[ "$(grep -c ': looked ' "$out")" = $((2 * n)) ] || { echo "  the probe did not look at all:"; show; return 1; }
	! grep 'CONSOLE.*source: file:' "$work/said" | grep -v '/index\.html' | sed 's/^/  | /' | grep . # of the probe itself
}

# refers PAGE: every reference is to a file beside the page; appended to $out otherwise.
refers() {
	local ref
	while read -r ref; do
		case $ref in
		*:* | /* | *..*) echo "$1: BAD reference: $ref" >> "$out" ;;
		'#'*) ;;
		*) [ -s "$work/$1/$ref" ] || echo "$1: BAD reference: $ref is not there" >> "$out" ;;
		esac
	done < <(tr '\n' ' ' < "$work/$1/index.html" | grep -oE '(src|srcset|href|action|poster|data)="[^"]*"|url\([^)]*\)|@import[^;]*' | sed -E 's/^[a-z]+="(.*)"$/\1/')
}

# good PAGE...: in order, dark and light; no script.  $out tells of light.
good() {
	local how p
	for how in dark light; do
		look $how "$@" || return
		for p; do refers "$p"; done
		if grep -q ': BAD ' "$out"; then grep ': BAD ' "$out" | sort -u | head -n 15 | sed 's/^/  /'; return 1; fi
	done
	for p; do if grep -qiE '<script| on[a-z]+="' "$work/$p/index.html"; then echo "  $p has a script"; return 1; fi; done
	shots "$@"
}

# Screenshots, for people: the page in columns.  A window cannot be as narrow as 400 pixels, a frame can.
shots() {
	local p w how args n high=2200
	[ -n "${PAGE_SHOTS:-}" ] || return 0
	mkdir -p "$PAGE_SHOTS"
	for p; do for w in 1280 400; do for how in light dark; do
		args=() n=$((w == 400 ? 6 : 3))
		[ $how = light ] || args=(--blink-settings=preferredColorScheme=0)
		{
			echo "<!doctype html><body style='margin:0;display:flex;gap:8px;background:#888'>"
			for i in $(seq 0 $((n - 1))); do
				echo "<div style='overflow:hidden;height:${high}px'><iframe style='border:0;margin-top:-$((i * high))px' width=$w height=20000 src='$p/index.html'></iframe></div>"
			done
		} > "$work/shot.html"
		run_browser "${args[@]}" --window-size=$((n * (w + 8) - 8)),$high --screenshot="$PAGE_SHOTS/$p-$w-$how.png" "file://$work/shot.html" > /dev/null || return
	done; done; done
}

# ---- tests ----

recorded_pages() {
	report recorded && report booted --dir results/vmboot && good recorded booted
}

# All that can be measured, RBD's figures beside LSVD's, and the commands.
made_up_page() {
	made_up "$work/one" 0 1 && ok results check "$work"/one/*.json && report whole --dir "$work/one" && good whole || return
	has 'TEXT 4 KiB random write, depth 32.*[^0-9]87.654[^0-9].*[^0-9]2143[^0-9]' && has '40\.90 × RBD' || return
	has 'TEXT 4 KiB random write, depth 1, fsync each.*3210.*3\.66 × RBD.*876' || return
	has 'TEXT .*ioengine=rbd .*rw=randwrite\.4k\.qd32 iodepth=32 # "made up" <&>' && has 'TEXT .*ioengine=lsvd filename=x.*rw=randwrite\.4k' && has 'TEXT .*ioengine=lsvd:s3 ' || return
	has 'TEXT .*lsvd store-bench rados:made-up' && has 'TEXT OSD: CPU per 4 KiB write.*11.*345.*17' && has 'made up, <2 cores> & not "measured"'
}

# Fourteen runs; the eighth, 800000c, is a third better than those before.
history_page() {
	local i
	for i in $(seq 0 13); do made_up "$work/runs" "$i" $((i < 7 ? 3 : 4)) || return; done
	ok results check "$work"/runs/*.json && report runs-page --dir "$work/runs" && good runs-page || return
	has 'TEXT Over 14 runs the figures changed their level [0-9]+ times' && has 'TEXT 800000c.*mem\.write\.4k\.qd32\.iops.*\+3[0-9]\.[0-9] %.*better' || return
	grep -q '<circle class="good"' "$work/runs-page/index.html" && grep -q 'dt (2,3)' "$work/runs-page/plots/history.gp"
}

# Of each picture: PNG with two pixels for one, PDF 7 inches wide with its letters inside.
pictures_for_paper() {
	local name png w h pdf
	made_up "$work/one" 0 1 && made_up "$work/one" 1 1.1 && report whole --dir "$work/one" || return
	sed -nE 's/.*<img src="plots\/([^"]*)\.svg" width="([0-9]*)" height="([0-9]*)".*/\1 \2 \3/p' "$work/whole/index.html" > "$work/names"
	[ "$(wc -l < "$work/names")" -ge 10 ] || { echo "  only $(wc -l < "$work/names") pictures"; return 1; }
	while read -r name w h; do
		png=$(od -An -tu1 -j 16 -N 8 "$work/whole/plots/$name.png" | awk '{ print $3 * 256 + $4, $7 * 256 + $8 }')
		[ "$png" = "$((2 * w)) $((2 * h))" ] || { echo "  $name.png is $png, on the page $w $h"; return 1; }
		pdf=$work/whole/plots/$name.pdf
		[ "$(head -c 5 "$pdf")" = %PDF- ] && grep -q "href=\"plots/$name\.pdf\"" "$work/whole/index.html" || { echo "  no $name.pdf"; return 1; }
		if grep -qa /ObjStm "$pdf"; then echo "  $name.pdf is packed (a newer cairo): not looked into"; continue; fi
		grep -qaE '/MediaBox \[ 0 0 504 ' "$pdf" || { echo "  $name.pdf is not 504 points wide"; return 1; }
		[ "$(grep -ca '/FontFile' "$pdf")" -ge 2 ] && ! grep -qa '/Subtype /Image' "$pdf" || { echo "  $name.pdf: letters are missing, or it is of pixels"; return 1; }
	done < "$work/names"
}

# broken NAME SED-SCRIPT: a copy of the page that is wrong.
broken() {
	cp -r "$work/sound" "$work/$1" && sed -i "$2" "$work/$1/index.html" && ! cmp -s "$work/sound/index.html" "$work/$1/index.html"
}
caught() { # NAME WHAT
	has "^$1: BAD ($2)" && ! grep "^$1: BAD " "$out" | grep -vE "^$1: BAD ($2)" || { echo "  $1 is not caught, or other things are"; return 1; }
}

broken_pages_are_caught() {
	local p all=(sound gone wide wide-details small script logs remote remote-style dead shrunk one-theme)
	report sound && cp -r "$work/sound" "$work/gone" && rm "$work/gone/plots/mem.svg" || return
	broken wide 's|</body>|<table style="width:2000px"><tr><td>x</table>&|' && broken wide-details 's|</body>|<details><summary>s</summary><pre style="width:2000px">x</pre></details>&|' || return
	broken small 's|</body>|<p style="font-size:10px">small print</p>&|' && broken script 's|</body>|<script>no.such.thing()</script>&|' || return
	broken logs 's|</body>|<script>console.error("an error of the page")</script>&|' || return
	broken remote 's|</body>|<img alt="x" width="100" src="http://192.0.2.1/x.png">&|' && broken remote-style 's|<style>|&@import url(https://192.0.2.1/x.css);|' || return
	broken dead 's|plots/mem\.png|plots/none.png|' && broken shrunk 's|</style>|figure img{min-width:0!important}&|' || return
	broken one-theme 's|<source media="[^"]*" srcset="plots/mem-dark.svg">||' && look dark "${all[@]}" || return
	for p in "${all[@]}"; do refers "$p"; done
	if grep '^sound: BAD' "$out"; then return 1; fi
	caught gone 'reference: plots/mem.svg is not there' && caught wide 'sideways' && caught wide-details 'sideways' && caught small 'small' || return
	caught script 'console: .*no is not defined' && caught logs 'console: .*an error of the page' && caught remote 'reference|picture|network|theme|console' || return
	has 'remote: BAD picture' && caught remote-style 'reference|network|console' && has 'remote-style: BAD reference' || return
	caught dead 'reference: plots/none' && caught shrunk 'letters 400' && caught one-theme 'theme' && look light gone && has '^gone: BAD picture'
}

tests=(recorded_pages made_up_page history_page pictures_for_paper broken_pages_are_caught)
[ $# = 0 ] || tests=("$@")
for t in "${tests[@]}"; do
	work=$tmp/$t
	mkdir "$work"
	began=$SECONDS
	if ("$t"); then pass=$((pass + 1)); echo "ok      $t ($((SECONDS - began)) s)"
	else fail=$((fail + 1)); echo "FAILED  $t"
	fi
	rm -rf "$work"
done
echo "page: $pass passed, $fail failed, 0 skipped"
[ $fail = 0 ]
