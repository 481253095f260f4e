# SPDX-License-Identifier: LGPL-2.1-or-later
# lib.sh - what workloads/vmboot/run does: images, boots, figures.  Sourced; the current folder is the repository.
#
# Every boot is kept in $D/boots/KEY.json as `ci/guest boot` printed it; figures are derived from these files at the end, so
# a run that was interrupted goes on, and a figure that is thought of later needs no boot.

O=${O:-build}
D=${VMBOOT_DIR:-$O/vmboot}
G=${LSVD_GUEST_CACHE:-/var/cache/lsvd-guest}
clone=clone-$$ # several runs may go on at once
lsvd=$O/lsvd
store=file:$(realpath -m "$D")/vols
bw=${VMBOOT_BW:-1000M}
export XDG_STATE_HOME=$D/state

say() { echo "vmboot: $*" >&2; }
die() { say "$*"; exit 1; }
json() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p" "$1" | head -n 1; }

# top FILE KEY: of the boot; stat FILE KEY: of the image, as the library counts.
top() { sed 's/, "lsvd": .*/}/' "$1" > "$D/.top"; json "$D/.top" "$2"; }
stat_of() { sed 's/.*"lsvd": *{/{/; s/"read_latency".*//' "$1" | tr ',{}' '\n\n\n' | sed -n "s/^ *\"$2\": *//p" | head -n 1; }

# ---- images ----

have() { "$lsvd" info "$store/$1" > /dev/null 2>&1; }

image() { # NAME COMMAND...: made once, with a snapshot to clone
	local name=$1
	shift
	if have "$name"; then return; fi
	say "image $name"
	"$@" > /dev/null || die "cannot make image $name"
	"$lsvd" snap create "$store/$name@base"
}

# Two boots of the guest from a local copy: what the profile is made of, and the other one.
record() {
	local n
	for n in 1 2; do
		[ -e "$D/$1-$n.csv" ] || { say "record a boot of $1"; boot_to "$D/boots/$1.record-$n.json" "$1" --csv "$D/$1-$n.csv"; }
	done
}

prepare_guest() {
	local g=$1 o
	[ -e "$G/$g.img" ] || ci/guest build "$g"
	record "$g"
	image "$g-imported" "$lsvd" import -q "$G/$g.img" "$store/$g-imported"
	for o in boot packed lba; do
		image "$g-$o" "$lsvd" reorg -q "$store/$g-imported" "$store/$g-$o" --order "$o" --trace "$D/$g-1.csv"
	done
}

prepare() {
	[ -e "$lsvd" ] && [ -e "$O/nbdkit-lsvd-plugin.so" ] || die "run make first (it needs nbdkit-plugin-dev)"
	ci/setup guest
	mkdir -p "$D/boots" "$D/vols"
	prepare_guest srv
	case " $parts " in *' min '* | *' everything '* | *' fleet '*) prepare_guest min ;; esac
	case " $parts " in *' rebuilt '*)
		[ -e "$G/srv-rebuilt.img" ] || ci/guest build srv-rebuilt
		image rebuilt-imported "$lsvd" import -q "$G/srv-rebuilt.img" "$store/rebuilt-imported"
		# Laid out by boots of the older build: as they are, and led to where their blocks are now.
		image rebuilt-untranslated "$lsvd" reorg -q "$store/rebuilt-imported" "$store/rebuilt-untranslated" --trace "$D/srv-1.csv"
		image rebuilt-boot "$lsvd" reorg -q "$store/rebuilt-imported" "$store/rebuilt-boot" --trace "$D/srv-1.csv" \
			--recorded-on "$store/srv-imported" ;;
	esac
}

# ---- boots ----

# boot_to FILE ARGUMENTS: `ci/guest boot`, once; FILE is there only when it went well.
boot_to() {
	local file=$1
	shift
	if [ -n "$list" ]; then echo "$(basename "$file" .json)"; return; fi
	[ ! -e "$file" ] || return 0
	${VMBOOT_WRAP:-} ci/guest boot "$@" > "$file.new" || { rm -f "$file.new"; die "boot $(basename "$file" .json) failed"; }
	mv "$file.new" "$file"
	say "$(basename "$file" .json): marker $(top "$file" marker_s) s, reads waited $(top "$file" outstanding_ms) ms, $(stat_of "$file" gets) GETs"
}

# lsvd_boot KEY IMAGE GUEST MS POOL SETTING...: from a new clone of IMAGE's snapshot, which is removed again.
lsvd_boot() {
	local key=$1 image=$2 guest=$3 ms=$4 pool=$5 s sets=()
	shift 5
	for s in "$@"; do sets+=(--set "$s"); done
	if [ -z "$list" ] && [ ! -e "$D/boots/$key.json" ]; then
		"$lsvd" rm --force -q "$store/$clone" 2> /dev/null || true
		"$lsvd" clone -q "$store/$image@base" "$store/$clone"
	fi
	boot_to "$D/boots/$key.json" "model:custom,lat=${ms}ms,bw=$bw:$store/$clone" --guest "$guest" --pool "$pool" \
		"${sets[@]}" --set pool.size=1G --set writer.check_ms=0
}

ahead_settings() {
	case $1 in
	none) echo readahead.max=0 prefetch.enabled=false ;;
	readahead) echo readahead.max=1M prefetch.enabled=false ;;
	profile) echo readahead.max=0 prefetch.enabled=true ;;
	*) die "what runs ahead is none, readahead or profile, not '$1'" ;;
	esac
}

# cell GUEST LAYOUT AHEAD MS CHUNK [warm]: cold, then warm on the same pool.
cell() {
	local key=$1.$2.$3.${4}ms.$5 image=$1-$2 pool=$D/pool-$$ last=${6:-cold}
	# As imported, with a profile: an image laid out in LBA order that carries one.
	[ "$2.$3" != imported.profile ] || image=$1-lba
	[ -z "$list" ] && [ -e "$D/boots/$key.$last.json" ] && return
	[ -n "$list" ] || rm -f "$pool" "$D/boots/$key.cold.json"
	lsvd_boot "$key.cold" "$image" "$1" "$4" "file:$pool" $(ahead_settings "$3") "cache.chunk=${5^^}"
	[ "$last" = cold ] ||
		lsvd_boot "$key.warm" "$image" "$1" "$4" "file:$pool" $(ahead_settings "$3") "cache.chunk=${5^^}"
	rm -f "$pool"
}

once() { # KEY IMAGE AHEAD: srv, cold, 20 ms, 64 KiB
	lsvd_boot "$1" "$2" srv 20 mem:1G $(ahead_settings "$3") cache.chunk=64K
}

rebuilt() {
	once rebuilt.imported rebuilt-imported none
	once rebuilt.untranslated rebuilt-untranslated profile
	once rebuilt.boot rebuilt-boot profile
}

# The same image for the peers: raw over nbdkit, each read later by the latency; a qcow2 overlay of QEMU on that.
peers() {
	local ms
	for ms in 20; do
		boot_to "$D/boots/peer.raw.${ms}ms.json" srv --delay $ms
		boot_to "$D/boots/peer.qcow2.${ms}ms.json" srv --delay $ms --overlay
	done
}

# In turns, so that what else the machine does falls on all: from a local file, and from a store of 20 ms, cold.
local_boots() {
	local n
	for n in 1 2 3; do
		boot_to "$D/boots/local.raw.$n.json" srv
		lsvd_boot "local.boot.$n" srv-boot srv 20 mem:1G $(ahead_settings profile) cache.chunk=64K
	done
}

# p99 of 4 KiB writes while a profile of 64 MB streams in at 20 MB/s, and without it; in turns.
write_path() {
	local n on
	for n in 1 2 3 4 5; do
		for on in true false; do
			if [ -n "$list" ]; then echo "write.$on.$n"; continue; fi
			[ ! -e "$D/boots/write.$on.$n.json" ] || continue
			"$lsvd" rm --force -q "$store/$clone" 2> /dev/null || true
			"$lsvd" clone -q "$store/srv-boot@base" "$store/$clone"
			rm -f "$D/pool-$$"
			LD_LIBRARY_PATH=$O/lsvd-engine ${VMBOOT_WRAP:-} fio --name=w --ioengine=lsvd --pool="file:$D/pool-$$" \
				--image="model:custom,lat=20ms,bw=20M:$store/$clone" --set="prefetch.enabled=$on,pool.size=1G,writer.check_ms=0" \
				--rw=randwrite --bs=4k --iodepth=4 --rate_iops=2000 --offset=1G --size=256M --time_based --runtime=3 \
				--output-format=json --output="$D/boots/write.$on.$n.json" || die "fio failed"
		done
	done
	rm -f "$D/pool-$$"
}

# ---- figures ----

figure() { [ -z "$4" ] || echo "$1 $2 $3 $4"; }
ratio() { awk -v a="${1:-}" -v b="${2:-}" 'BEGIN { if (a != "" && b > 0) printf "%.6g", a / b }'; }
percent() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { if (b > 0) printf "%.4g", 100 * a / b }'; }

# boot_figures KEY: name, unit, direction, value of all that a boot of LSVD tells.
boot_figures() {
	local f=$D/boots/$1.json n=vmboot.$1 read s
	case $1 in local.*) n=${n%.[0-9]} ;; esac # samples of one figure
	[ -e "$f" ] || return 0
	read=$(top "$f" read_bytes)
	figure "$n.marker_s" s lower "$(top "$f" marker_s)"
	figure "$n.cpu_s" s none "$(top "$f" cpu_s)"
	figure "$n.outstanding_ms" ms lower "$(top "$f" outstanding_ms)"
	figure "$n.read_bytes" bytes none "$read"
	grep -q '"lsvd"' "$f" || return 0
	figure "$n.server_cpu_s" s lower "$(top "$f" server_cpu_s)"
	figure "$n.gets" count lower "$(stat_of "$f" gets)"
	figure "$n.bytes" bytes lower "$(stat_of "$f" get_bytes)"
	figure "$n.read_amplification" ratio lower "$(ratio "$(stat_of "$f" get_bytes)" "$read")"
	figure "$n.wasted_bytes" bytes lower "$(stat_of "$f" prefetch_wasted_bytes)"
	for s in journal cache prefetch; do
		figure "$n.hit_${s}_percent" percent none "$(percent "$(stat_of "$f" hit_${s}_bytes)" "$read")"
	done
	figure "$n.miss_percent" percent lower "$(percent "$(stat_of "$f" miss_bytes)" "$read")"
}

# against NAME KEY BASE: the floors' ratios of a boot to the one as imported.
against() {
	local a=$D/boots/$2.json b=$D/boots/$3.json
	[ -e "$a" ] && [ -e "$b" ] || return 0
	figure "vmboot.$1.gets_ratio_imported" ratio lower "$(ratio "$(stat_of "$a" gets)" "$(stat_of "$b" gets)")"
	figure "vmboot.$1.outstanding_ratio_imported" ratio lower "$(ratio "$(top "$a" outstanding_ms)" "$(top "$b" outstanding_ms)")"
	figure "vmboot.$1.marker_ratio_imported" ratio lower "$(ratio "$(top "$a" marker_s)" "$(top "$b" marker_s)")"
	figure "vmboot.$1.bytes_ratio_imported" ratio lower "$(ratio "$(stat_of "$a" get_bytes)" "$(stat_of "$b" get_bytes)")"
}

p99_us() { tr -d ' \n' < "$1" | sed 's/.*"write":{//; s/"trim":.*//; s/.*"clat_ns"//; s/.*"99.000000":\([0-9]*\).*/\1/' | awk '{ print $1 / 1000 }'; }

figures() {
	local f n a b
	for f in "$D"/boots/*.json; do
		n=$(basename "$f" .json)
		case $n in write.* | *.record-* | fleet.*) ;; *) boot_figures "$n" ;; esac
	done
	against srv srv.boot.profile.20ms.64k.cold srv.imported.none.20ms.64k.cold
	against rebuilt rebuilt.boot rebuilt.imported
	against untranslated rebuilt.untranslated rebuilt.imported
	f=$D/boots/srv.boot.profile.20ms.64k.cold.json
	[ ! -e "$f" ] || figure vmboot.srv.fetched_per_read ratio lower "$(ratio "$(stat_of "$f" get_bytes)" "$(top "$f" read_bytes)")"
	for n in 1 2 3 4 5; do
		a=$D/boots/local.boot.$n.json b=$D/boots/local.raw.$n.json
		[ ! -e "$a" ] || [ ! -e "$b" ] || figure vmboot.srv.marker_ratio_local ratio lower "$(ratio "$(top "$a" marker_s)" "$(top "$b" marker_s)")"
		a=$D/boots/write.true.$n.json b=$D/boots/write.false.$n.json
		[ -e "$a" ] && [ -e "$b" ] || continue
		figure vmboot.write.p99_us.prefetching us lower "$(p99_us "$a")"
		figure vmboot.write.p99_us.idle us none "$(p99_us "$b")"
		figure vmboot.write.p99_ratio_idle ratio lower "$(ratio "$(p99_us "$a")" "$(p99_us "$b")")"
	done
	fleet_figures
}

finish() {
	local commit dirty='' git=(git -c safe.directory='*')
	"$lsvd" rm --force -q "$store/$clone" 2> /dev/null || true
	cat "$D"/boots/*.json > "$D/boots.jsonl"
	figures > "$D/figures.txt"
	commit=$("${git[@]}" rev-parse HEAD 2> /dev/null || echo 0000000)
	[ -z "$("${git[@]}" status --porcelain -- . ':!results' 2> /dev/null)" ] || dirty=--dirty
	"$lsvd" results record --dir results/vmboot --commit "$commit" $dirty --profile "$profile" --disk "$D" \
		--versions "$(ci/guest versions)" < "$D/figures.txt"
}
