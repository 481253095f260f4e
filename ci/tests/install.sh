#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# install: what `make install` puts where, that programs link with it, and that uninstall leaves nothing; that a change
# of compiler flags rebuilds; that the engine shows fio one symbol and the library only its own.
# It may link again what others run (the version is in it, and a commit changes that).
# needs: alone
set -u
cd "$(dirname "$0")/../.." || exit 1
o=${O:-build}
pass=0 fail=0 skip=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
ok() { pass=$((pass + 1)); }
bad() { fail=$((fail + 1)); echo "FAILED: $*"; }
check() { local what=$1; shift; if "$@" > "$tmp/out" 2>&1; then ok; else bad "$what"; head -n 10 "$tmp/out"; fi; }
p=$tmp/prefix
mk() { make --no-print-directory -s O="$o" PREFIX="$p" SYSLIBDIR="$tmp/syslib" NBDKITDIR="$tmp/nbdkit" "$@"; }

mkdir "$tmp/syslib" "$tmp/nbdkit"
check 'make install' mk install
for f in bin/lsvd include/lsvd.h lib/liblsvd.a lib/liblsvd.so lib/liblsvd.so.0 lib/pkgconfig/lsvd.pc; do
	check "$f is installed" test -e "$p/$f"
done
for m in docs/*.[135]; do
	[ ! -e "$m" ] || check "$m is installed" test -e "$p/share/man/man${m##*.}/$(basename "$m")"
done
check 'the tool runs' "$p/bin/lsvd" --version
check 'the header compiles alone' ${CC:-gcc} -std=gnu11 -Wall -Werror -fsyntax-only -x c "$p/include/lsvd.h"

cat > "$tmp/a.c" <<'E'
#include <lsvd.h>
int main(void) { return 0; }
E
export PKG_CONFIG_PATH=$p/lib/pkgconfig
check 'a program links with the shared library' ${CC:-gcc} "$tmp/a.c" -o "$tmp/a" -Wl,--no-as-needed $(pkg-config --cflags --libs lsvd)
check 'and finds it by its soname' env LD_LIBRARY_PATH="$p/lib" "$tmp/a"
check 'pkg-config tells the release' test "$(pkg-config --modversion lsvd)" = "$(cat VERSION)"
check 'the library exports lsvd_* only' test -z \
	"$(nm -D --defined-only "$p/lib/liblsvd.so" | awk '$2 != "A" && $3 !~ /^lsvd_/ { print $3 }')"

if [ -e "$p/lib/fio/fio-lsvd.so" ]; then
	check 'the engine exports ioengine only' test "$(nm -D --defined-only "$p/lib/fio/fio-lsvd.so" | awk '{ print $3 }')" = ioengine
	check 'the link for plain fio' test "$(readlink "$tmp/syslib/lsvd")" = "$p/lib/fio/fio-lsvd.so"
	check 'fio finds the engine by its path' fio --enghelp="$p/lib/fio/fio-lsvd.so"
	check 'the wrapper finds it by name' "$p/bin/fio-lsvd" --enghelp=lsvd
	check 'which lists its options' grep -q '^image ' <("$p/bin/fio-lsvd" --enghelp=lsvd)
else
	skip=$((skip + 1)); echo "SKIPPED: the engine was not built"
fi

plugin=$p/lib/lsvd/nbdkit-lsvd-plugin.so
if [ -e "$plugin" ]; then
	check 'the plugin exports plugin_init only' test "$(nm -D --defined-only "$plugin" | awk '{ print $3 }')" = plugin_init
	check 'nbdkit finds the plugin' test "$(readlink "$tmp/nbdkit/nbdkit-lsvd-plugin.so")" = "$plugin"
	check 'and can load it' nbdkit --dump-plugin "$tmp/nbdkit/nbdkit-lsvd-plugin.so"
	check 'its parameters are told' grep -q '^export=NAME=IMAGE' <(nbdkit "$plugin" --help)
else
	skip=$((skip + 1)); echo "SKIPPED: the plugin was not built"
fi

check 'make uninstall' mk uninstall
left=$(find "$p" "$tmp/syslib" "$tmp/nbdkit" ! -type d)
check "uninstall leaves nothing: $left" test -z "$left"

check 'a build elsewhere' mk O="$tmp/b" "$tmp/b/core/sys/err.o"
built() { stat -c %y "$tmp/b/core/sys/err.o"; }
first=$(built)
check 'the same again' mk O="$tmp/b" "$tmp/b/core/sys/err.o"
check 'builds nothing' test "$first" = "$(built)"
check 'other flags' mk O="$tmp/b" CFLAGS=-O0 "$tmp/b/core/sys/err.o"
check 'build it again' test "$first" != "$(built)"

mkdir -p "$tmp/tree/core/map"
printf '#include "store/store.h"\n' > "$tmp/tree/core/map/x.c"
if ci/lint-includes "$tmp/tree" > /dev/null; then bad 'an upward include is not seen'; else ok; fi

echo "install: $pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
