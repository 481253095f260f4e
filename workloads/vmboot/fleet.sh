# SPDX-License-Identifier: LGPL-2.1-or-later
# fleet.sh - several clones of one image booted at once; sourced by run.
#
#   shared     one gateway: one pool, one read cache for all
#   separate   a gateway, with a pool of its own, for each
#   raw        the same guest from a raw image by nbdkit, each read later by the latency
#
# The store is 20 ms away.  FLEET (1 2 4): how many at once; FLEET_GUEST (min), with one CPU and 256 MiB each.  What a fleet of
# ten costs the store is predicted in virtual time (`lsvd reorg --plan --clones`), for ten guests are too many for few CPUs.

fleet_guest=${FLEET_GUEST:-min}

# serve SOCKET POOL CLONE...: a gateway in the background; its pid is added to `gateways`.
serve() {
	local socket=$1 pool=$2 c exports=() i
	shift 2
	for c in "$@"; do exports+=("export=$c=model:custom,lat=20ms,bw=$bw:$store/$c"); done
	nbdkit -f -t 64 -U "$socket" "$O/nbdkit-lsvd-plugin.so" "pool=file:$pool" pool.size=1G readahead.max=0 \
		writer.check_ms=0 keep-open=true "control=$socket.control" "${exports[@]}" > "$socket.log" 2>&1 &
	gateways+=($!)
	for ((i = 0; i < 600; i++)); do [ ! -S "$socket" ] || return 0; sleep 0.05; done
	die "the gateway did not start: $(tail -n 1 "$socket.log")"
}

stop_gateways() {
	local p
	for p in "${pids[@]}"; do kill "$p" 2> /dev/null || true; done
	for p in "${gateways[@]}"; do kill "$p" 2> /dev/null || true; wait "$p" 2> /dev/null || true; done
	gateways=()
}

# One line of JSON with the sums: of the boots' markers the first and the last, of the images GETs and bytes.
sum_up() {
	local dir=$1 n=$2 f
	for f in "$dir"/boot.*; do top "$f" marker_s; done | sort -n > "$dir/markers"
	{
		printf '{"clones": %s, "first_marker_s": %s, "last_marker_s": %s' "$n" "$(head -n 1 "$dir/markers")" "$(tail -n 1 "$dir/markers")"
		for f in gets get_bytes read_bytes hit_cache_bytes hit_prefetch_bytes miss_bytes; do
			printf ', "%s": %s' $f "$(for s in "$dir"/stats.*; do stat_of "$s" $f; done | awk '{ n += $1 } END { printf "%d", n }')"
		done
		echo '}'
	} > "$dir/sum"
}

# fleet HOW N
fleet() {
	local how=$1 n=$2 out=$D/boots/fleet.$1.$2.json dir=$D/fleet i c pids=() clones=() gateways=()
	if [ -n "$list" ]; then echo "fleet.$how.$n"; return; fi
	[ ! -e "$out" ] || return 0
	rm -rf "$dir"; mkdir -p "$dir"
	trap stop_gateways EXIT
	for ((i = 1; i <= n; i++)); do
		c=fleet-$i; clones+=($c)
		[ "$how" != raw ] || continue
		"$lsvd" rm --force -q "$store/$c" 2> /dev/null || true
		"$lsvd" clone -q "$store/$fleet_guest-boot@base" "$store/$c"
		[ "$how" != separate ] || serve "$dir/$c.sock" "$dir/$c.pool" "$c"
	done
	[ "$how" != shared ] || serve "$dir/all.sock" "$dir/pool" "${clones[@]}"
	for c in "${clones[@]}"; do
		case $how in
		raw) i="$fleet_guest --delay 20" ;;
		shared) i="nbd+unix:///$c?socket=$(realpath "$dir/all.sock")" ;;
		separate) i="nbd+unix:///$c?socket=$(realpath "$dir/$c.sock")" ;;
		esac
		SMP=1 MEM=256 BOOT_SECONDS=900 ci/guest boot $i --guest "$fleet_guest" > "$dir/boot.$c" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || die "a boot of the fleet failed"; done
	for c in "${clones[@]}"; do
		case $how in
		raw) sed 's/{/{"lsvd": {/; s/"reads"/"gets"/; s/"read_bytes": \([0-9]*\)/"read_bytes": \1, "get_bytes": \1/; s/$/}/' \
			"$dir/boot.$c" > "$dir/stats.$c" ;;
		shared) ci/guest ask "$dir/all.sock.control" "{\"do\": \"stats\", \"export\": \"$c\"}" | sed 's/"stats"/"lsvd"/' > "$dir/stats.$c" ;;
		separate) ci/guest ask "$dir/$c.sock.control" "{\"do\": \"stats\", \"export\": \"$c\"}" | sed 's/"stats"/"lsvd"/' > "$dir/stats.$c" ;;
		esac
	done
	stop_gateways
	trap - EXIT
	sum_up "$dir" "$n"
	[ "$how" = raw ] || for c in "${clones[@]}"; do "$lsvd" rm --force -q "$store/$c"; done
	mv "$dir/sum" "$out"
	rm -rf "$dir"
	say "fleet of $n, $how: last marker $(json "$out" last_marker_s) s, $(json "$out" gets) GETs, $(json "$out" get_bytes) bytes"
}

fleets() {
	local n
	for n in ${FLEET:-1 2 4}; do fleet shared "$n"; done
	fleet separate 4
	fleet raw 4
	predict_fleet
}

# Clones of srv in virtual time, exact: one cache for all, and one for each.
predict_fleet() {
	local n v
	if [ -n "$list" ]; then return; fi
	for n in 1 2 4 10; do
		for v in original reorg_prefetch; do
			"$lsvd" reorg --plan "$store/srv-imported" --trace "$D/srv-1.csv" --eval "$D/srv-2.csv" --model custom \
				--latency 20ms --bandwidth "$bw" --clones "$n" --variant "$v" --json > "$D/predicted.$v.$n"
		done
	done
}

# The second run of the JSON: the boot that is not in the plan.
predicted() { sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p" "$1" | tail -n 1; }

fleet_figures() {
	local f n how k
	for f in "$D"/boots/fleet.*.json; do
		[ -e "$f" ] || continue
		how=$(basename "$f" .json); n=vmboot.$how
		for k in first_marker_s last_marker_s; do figure "$n.$k" s lower "$(json "$f" $k)"; done
		figure "$n.gets" count lower "$(json "$f" gets)"
		figure "$n.bytes" bytes lower "$(json "$f" get_bytes)"
		figure "$n.read_bytes" bytes none "$(json "$f" read_bytes)"
	done
	for f in "$D"/predicted.*; do
		[ -e "$f" ] || continue
		case $f in *.original.*) n=imported ;; *) n=boot ;; esac
		n=vmboot.fleet.predicted.$n.${f##*.}
		figure "$n.gets" count lower "$(predicted "$f" gets)"
		figure "$n.bytes" bytes lower "$(predicted "$f" bytes)"
		figure "$n.read_bytes" bytes none "$(predicted "$f" read_bytes)"
		figure "$n.outstanding_ms" ms lower "$(predicted "$f" outstanding_ms)"
	done
	for n in 2 4; do
		[ -e "$D/boots/fleet.shared.1.json" ] && [ -e "$D/boots/fleet.shared.$n.json" ] || continue
		figure "vmboot.fleet.gets_ratio_one.$n" ratio lower \
			"$(ratio "$(json "$D/boots/fleet.shared.$n.json" gets)" "$(json "$D/boots/fleet.shared.1.json" gets)")"
		figure "vmboot.fleet.bytes_ratio_one.$n" ratio lower \
			"$(ratio "$(json "$D/boots/fleet.shared.$n.json" get_bytes)" "$(json "$D/boots/fleet.shared.1.json" get_bytes)")"
	done
}
