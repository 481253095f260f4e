# SPDX-License-Identifier: LGPL-2.1-or-later
# One non-recursive makefile.  `make help` lists the targets.

O       ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
CFLAGS  ?= -O2 -g
WERROR  ?= $(if $(CI),-Werror)
PROFILE ?= quick

ifeq ($(origin CC),default)
CC := gcc
endif

# Where `make install` puts things: FIODIR for a fio with dynamic engines, ENGINEDIR for the wrapper fio-lsvd, and
# SYSLIBDIR where the dynamic loader finds `lsvd` for any other fio.
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
FIODIR     ?= $(LIBDIR)/fio
ENGINEDIR  := $(PREFIX)/lib/lsvd
SYSLIBDIR  ?= /usr/lib/$(shell $(CC) -print-multiarch 2>/dev/null)
# NBDKITDIR: where nbdkit looks for plugins.
NBDKITDIR  ?= $(shell pkg-config nbdkit --variable=plugindir 2>/dev/null)

RELEASE := $(shell cat VERSION)
COMMIT  := $(shell git -c safe.directory='*' describe --always --dirty 2>/dev/null)
VERSION := $(RELEASE)$(if $(COMMIT),-$(COMMIT))
SOMAJOR := 0

# -Wno-stringop-overflow: GCC 12 misjudges the bounds of inlined cursors (sys/bytes.h)
WARN  := -Wall -Wextra -Wshadow -Wvla -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
         -Wformat=2 -Wimplicit-fallthrough -Wundef -Wno-stringop-overflow $(WERROR)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread -MMD -MP -Icore -I. \
             $(WARN) $(CFLAGS) $(SAN)
LIBS  := -luring -ljansson -lisal -lpthread -lm

# Libraries that only some URLs and commands need are loaded when one is used (core/sys/dynlib.h).  Building wants their
# headers: -DHAVE_RADOS, -DHAVE_S3, -DHAVE_NBD, -DHAVE_PCAP say which are there; what needs the others is left out.
optional := RADOS:rados/librados.h:librados-dev:rados CURL:curl/curl.h:libcurl4-openssl-dev:s3 \
  EVP:openssl/evp.h:libssl-dev:s3 EXPAT:expat.h:libexpat1-dev:s3 NBD:libnbd.h:libnbd-dev:nbd PCAP:pcap/pcap.h:libpcap-dev:pcap
field = $(word $(1),$(subst :, ,$(2)))
found := $(shell printf '\n\043if __has_include(<%s>)\n%s\n\043endif' $(foreach o,$(optional),$(call field,2,$(o)) $(call field,1,$(o))) \
           | $(CC) -E -P -x c - 2>/dev/null)
left_out := $(foreach o,$(optional),$(if $(filter $(call field,1,$(o)),$(found)),,$(o)))
# S3 wants all three of its own.
found += $(if $(filter-out $(found),CURL EVP EXPAT),,S3)
ALL_CFLAGS += $(addprefix -DHAVE_,$(found))

# V=1 shows the whole commands.
Q := $(if $(V),,@)
quiet := $(V)$(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
note = $(if $(quiet),,@printf '  %-5s %s\n' $(1) $(patsubst $(O)/%,%,$@))

.DEFAULT_GOAL := all
.SECONDARY:
.SUFFIXES:
.DELETE_ON_ERROR:

lib_src  := $(wildcard core/sys/*.c core/store/*.c core/format/*.c core/map/*.c core/pool/*.c \
            core/journal/*.c core/cache/*.c core/volume/*.c core/image/*.c)
lib_src  := $(filter-out $(if $(filter RADOS,$(found)),,core/store/rados%.c),$(lib_src))
lib_src  := $(filter-out $(if $(filter S3,$(found)),,core/store/s3%.c),$(lib_src))
tool_src := $(wildcard cli/*.c trace/*.c reorg/*.c results/*.c gateway/*.c)
plugin_src := $(wildcard gateway/plugin/*.c) gateway/url.c
test_src := $(wildcard $(addsuffix /test/test_*.c,core cli trace reorg results fio-engine ci/runner))
bench_src := $(wildcard ci/runner/*.c)
fuzz_src := $(wildcard $(addsuffix /test/fuzz_*.c,core cli trace reorg results))
ifeq ($(filter S3,$(found)),)
test_src := $(filter-out core/test/test_s3%,$(test_src))
fuzz_src := $(filter-out core/test/fuzz_s3%,$(fuzz_src))
endif
test_lib := $(filter-out $(wildcard core/test/test_*.c core/test/fuzz_*.c core/test/bench_*.c),$(wildcard core/test/*.c))
man_src  := $(wildcard docs/*.1 docs/*.3 docs/*.5)

obj = $(patsubst %.c,$(O)/%.o,$(1))
tests := $(patsubst %.c,$(O)/test/%,$(notdir $(test_src)))

all: $(O)/liblsvd.a $(O)/liblsvd.so $(O)/lsvd engine plugin optional  ## build the library, the tool, the fio engine and the nbdkit plugin

optional:
	@$(foreach o,$(left_out),echo "note: no $(call field,2,$(o)) (package $(call field,3,$(o))); $(if $(filter pcap,$(call field,4,$(o))),\`lsvd trace capture\` from packets is,$(call field,4,$(o)): URLs are) left out";):

check_deps = for p in liburing jansson libisal; do ! command -v pkg-config >/dev/null || pkg-config --exists $$p || \
  { echo "make: no development files of $$p; run: ci/setup build" >&2; exit 1; }; done

# What the compiler is called with; objects are built again when it changes.  Two makes may look at the same time.
$(O)/.flags: FORCE
	@command -v $(firstword $(CC)) >/dev/null || { echo "make: no compiler '$(CC)'; run: ci/setup build" >&2; exit 1; }
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || { $(check_deps); echo '$(CC) $(ALL_CFLAGS)' > $@; }
$(O)/.version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

$(O)/%.o: %.c $(O)/.flags
	@mkdir -p $(@D)
	$(call note,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/cli/main.o: private ALL_CFLAGS += -DLSVD_VERSION='"$(VERSION)"'
$(O)/core/image/context.o: private ALL_CFLAGS += -DLSVD_VERSION='"$(VERSION)"'
$(O)/cli/main.o: $(O)/.version

$(O)/liblsvd.a: $(call obj,$(lib_src))
	@rm -f $@
	$(call note,AR)
	$(Q)ar rcs $@ $^

$(O)/liblsvd.so: $(call obj,$(lib_src)) core/lsvd.map
	$(call note,LD)
	$(Q)$(CC) -shared $(SAN) -Wl,-soname,liblsvd.so.$(SOMAJOR) -Wl,--version-script=core/lsvd.map -o $@ \
	  $(call obj,$(lib_src)) $(LIBS)
	@ln -sf liblsvd.so $(O)/liblsvd.so.$(SOMAJOR)

$(O)/lsvd: $(call obj,$(tool_src)) $(O)/liblsvd.a
	$(call note,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LIBS)

# The fio engine: one object named as each fio wants it.  It needs the headers of the installed fio (see the script),
# whose own warnings are not ours; `sudo make install` finds again those that an ordinary user built with.  It is not built with a sanitizer, which fio does not carry.
engine_src := $(wildcard fio-engine/lsvd.c)
ifneq ($(engine_src),)
ifndef FIO_INC
FIO_INC := $(or $(shell ci/fio-headers --cached),$(shell [ "$$(basename "$$(cat $(O)/lsvd-engine/.inc 2>/dev/null)")" = \
             "$$(fio --version 2>/dev/null)" ] && cat $(O)/lsvd-engine/.inc 2>/dev/null))
endif
endif
engine_dir := $(O)/lsvd-engine
ifneq ($(and $(engine_src),$(FIO_INC)),)
ifeq ($(SAN),)
engine_so := $(engine_dir)/fio-lsvd.so
endif
endif
engine_cflags = $(filter-out -Wconversion -Wundef -Wshadow -Wvla,$(ALL_CFLAGS)) -isystem $(FIO_INC) -include config-host.h \
                -DLSVD_BUILT_FOR='"$(notdir $(FIO_INC))"'

engine: $(engine_so)  ## build the fio engine (its headers: make fio-headers)
ifeq ($(engine_so),)
ifneq ($(engine_src),)
	@$(if $(SAN),:,echo "note: no headers of the installed fio (package fio, then: make fio-headers); the fio engine is left out")
endif
endif

fio-headers:  ## fetch the headers of the installed fio, once
	@ci/fio-headers

$(engine_dir)/.flags: FORCE
	@mkdir -p $(@D)
	@echo $(FIO_INC) > $(engine_dir)/.inc
	@echo '$(CC) $(engine_cflags)' | cmp -s - $@ || echo '$(CC) $(engine_cflags)' > $@
$(engine_dir)/lsvd.o: fio-engine/lsvd.c $(engine_dir)/.flags
	$(call note,CC)
	$(Q)$(CC) $(engine_cflags) -c -o $@ $<
$(engine_dir)/fio-lsvd.so: $(engine_dir)/lsvd.o $(O)/liblsvd.a fio-engine/engine.map
	$(call note,LD)
	$(Q)$(CC) -shared -Wl,--version-script=fio-engine/engine.map -o $@ $< $(O)/liblsvd.a $(LIBS)
	@ln -sf fio-lsvd.so $(engine_dir)/lsvd

# The nbdkit plugin, by a path as by its name: nbdkit build/nbdkit-lsvd-plugin.so IMAGE.
ifneq ($(shell printf '\043if __has_include(<nbdkit-plugin.h>)\nyes\n\043endif' | $(CC) -E -P -x c - 2>/dev/null),)
ifeq ($(SAN),)
plugin_so := $(O)/nbdkit-lsvd-plugin.so
endif
endif

plugin: $(plugin_so)  ## build the nbdkit plugin
ifeq ($(plugin_so),)
	@$(if $(SAN),:,echo "note: no nbdkit-plugin.h (package nbdkit-plugin-dev); the nbdkit plugin is left out, and lsvd map does not work")
endif

$(O)/gateway/plugin/plugin.o: private ALL_CFLAGS += -DLSVD_VERSION='"$(VERSION)"'
$(O)/gateway/plugin/plugin.o: $(O)/.version
$(O)/nbdkit-lsvd-plugin.so: $(call obj,$(plugin_src)) $(O)/liblsvd.a gateway/plugin/plugin.map
	$(call note,LD)
	$(Q)$(CC) -shared -Wl,--version-script=gateway/plugin/plugin.map -o $@ $(call obj,$(plugin_src)) $(O)/liblsvd.a $(LIBS)

# The benchmark runner; its malloc that counts, and its main, are not for tests.
bench_objs := $(call obj,$(filter-out cli/main.c,$(tool_src)) $(bench_src))
$(O)/ci-bench: $(bench_objs) $(O)/liblsvd.a
	$(call note,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LIBS)
bench-runner: $(O)/ci-bench  ## build what `make bench` runs

# A test links everything but the tool's main, so that it can reach any room of the house.
test_objs := $(call obj,$(test_lib) $(filter-out cli/main.c,$(tool_src)) \
             $(filter-out $(addprefix ci/runner/,main.c driver.c alloc.c yield.c),$(bench_src)))
define test_rule
$(O)/test/$(basename $(notdir $(1))): $(O)/$(basename $(1)).o $$(test_objs) $(O)/liblsvd.a
	@mkdir -p $$(@D)
	$$(call note,LD)
	$$(Q)$$(CC) $$(SAN) -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach t,$(test_src),$(eval $(call test_rule,$(t))))

# A fuzzer has libFuzzer's main and, of the helpers of tests, only those that know no test; `make fuzz` builds it in a folder of its own.
define fuzz_rule
$(O)/fuzz/$(basename $(notdir $(1))): $(O)/$(basename $(1)).o $$(filter-out $(O)/core/test/%,$$(test_objs)) $(O)/core/test/format_util.o $(O)/liblsvd.a
	@mkdir -p $$(@D)
	$$(call note,LD)
	$$(Q)$$(CC) -fsanitize=fuzzer,address -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach t,$(fuzz_src),$(eval $(call fuzz_rule,$(t))))

# Standalone programs that measure one module and print one JSON object.
benches := $(patsubst core/test/%.c,$(O)/bench/%,$(wildcard core/test/bench_*.c))
$(O)/bench/bench_%: $(O)/core/test/bench_%.o $(O)/liblsvd.a
	@mkdir -p $(@D)
	$(call note,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LIBS)

# Those of the tool's rooms.
benches += $(patsubst trace/test/%.c,$(O)/bench/%,$(wildcard trace/test/bench_*.c))
$(O)/bench/bench_%: $(O)/trace/test/bench_%.o $(call obj,$(filter-out cli/main.c,$(tool_src))) $(O)/liblsvd.a
	@mkdir -p $(@D)
	$(call note,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LIBS)

bench-micro: $(benches)  ## measure single modules
	@for b in $(benches); do echo "$$(basename $$b)"; $$b || exit 1; done

unit: $(tests) $(if $(SAN),,$(O)/ci-bench)  ## build the unit tests
fuzzers: $(patsubst %.c,$(O)/fuzz/%,$(notdir $(fuzz_src)))

check: all unit lint-includes  ## quick tests: no network, no root, under a minute
	@ci/check $(O)

test:  ## everything, with its set-up: packages when root, fio's headers
	@O=$(O) ci/test

bench:  ## benchmark this commit, with its set-up: PROFILE=quick or full
	@ci/setup $(if $(filter full,$(PROFILE)),full,bench)
	@ci/fio-headers >/dev/null
	@$(MAKE) --no-print-directory -s $(jobs) all bench-runner
	@O=$(O) ci/bench $(PROFILE)

# Half the machine's checks run beside a compiler: use all cores unless the caller said how many.
jobs = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

asan:  ## quick tests under the address and leak sanitizers
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-asan CFLAGS='-O1 -g -fno-omit-frame-pointer' SAN=-fsanitize=address WERROR= unit
	@ci/check $(O)-asan

ubsan:  ## quick tests under the undefined behaviour sanitizer
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-ubsan CFLAGS='-O1 -g' SAN='-fsanitize=undefined -fno-sanitize-recover=all' WERROR= unit
	@ci/check $(O)-ubsan

sanitizers:  ## quick tests under the address, leak and undefined behaviour sanitizers at once
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-san CFLAGS='-O1 -g -fno-omit-frame-pointer' \
	  SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined' WARN=-w unit
	@ci/check $(O)-san

tsan:  ## quick tests under the thread sanitizer
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-tsan CFLAGS='-O1 -g' SAN=-fsanitize=thread WARN=-w unit
	@ci/check $(O)-tsan 1

# Optimised, for a break that only a rare schedule meets takes many.
mutants:  ## break the code on purpose, one way at a time: a test must notice (MUTANTS="few" or names)
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-mutants CFLAGS='-O2 -g -DLSVD_MUTANTS' WERROR= $(addprefix $(O)-mutants/test/,test_sim test_pool test_pool_legs)
	@ci/mutants $(O)-mutants $(MUTANTS)

soak: unit  ## simulator, exhaustive cuts and fuzzers with new seeds for HOURS=1; what fails is made short
	@O=$(O) ci/soak $(or $(HOURS),1)

fuzz:  ## run every fuzzer for FUZZ_SECONDS=10
	@command -v clang >/dev/null || { echo "make: no clang (packages clang libclang-rt-dev); the fuzzers are left out" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(jobs) O=$(O)-fuzz CC=clang CFLAGS='-O1 -g' SAN=-fsanitize=fuzzer-no-link,address WARN=-w fuzzers
	@ci/fuzz $(O)-fuzz

lint-includes:
	@ci/lint-includes

lint:  ## what a compiler does not check: includes, sizes, shell, cppcheck
	@ci/lint

fmt:  ## format the sources with clang-format
	@command -v clang-format >/dev/null || { echo "make: no clang-format (package clang-format)" >&2; exit 1; }
	find $(wildcard core cli trace reorg results fio-engine gateway ci/runner) -name '*.[ch]' | xargs clang-format -i

setup:  ## install what building and testing needs (as root)
	@ci/setup test

$(O)/lsvd.pc: core/lsvd.pc.in VERSION FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(RELEASE)|' $< > $@

man_dest = $(foreach m,$(man_src),$(MANDIR)/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m)))
install: all $(O)/lsvd.pc  ## install to PREFIX (/usr/local) under DESTDIR
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR))
	install -m 755 $(O)/lsvd $(DESTDIR)$(BINDIR)/lsvd
	install -m 644 core/lsvd.h $(DESTDIR)$(INCLUDEDIR)/lsvd.h
	install -m 644 $(O)/liblsvd.a $(DESTDIR)$(LIBDIR)/liblsvd.a
	install -m 644 $(O)/liblsvd.so $(DESTDIR)$(LIBDIR)/liblsvd.so.$(RELEASE)
	ln -sf liblsvd.so.$(RELEASE) $(DESTDIR)$(LIBDIR)/liblsvd.so.$(SOMAJOR)
	ln -sf liblsvd.so.$(SOMAJOR) $(DESTDIR)$(LIBDIR)/liblsvd.so
	install -m 644 $(O)/lsvd.pc $(DESTDIR)$(LIBDIR)/pkgconfig/lsvd.pc
	$(foreach m,$(man_dest),install -D -m 644 docs/$(notdir $(m)) $(DESTDIR)$(m) &&) :
ifneq ($(engine_so),)
	install -d $(DESTDIR)$(FIODIR)
	install -m 644 $(engine_so) $(DESTDIR)$(FIODIR)/fio-lsvd.so
	install -d $(DESTDIR)$(ENGINEDIR)
	ln -sf $(FIODIR)/fio-lsvd.so $(DESTDIR)$(ENGINEDIR)/lsvd
	install -m 755 fio-engine/fio-lsvd $(DESTDIR)$(BINDIR)/fio-lsvd
	@d=$(DESTDIR)$(SYSLIBDIR); [ -z '$(DESTDIR)' ] || mkdir -p $$d; \
	if [ -w $$d ]; then echo "ln -sfn $(FIODIR)/fio-lsvd.so $$d/lsvd"; ln -sfn $(FIODIR)/fio-lsvd.so $$d/lsvd; \
	else echo "note: $$d is not writable, so plain fio does not find the engine; use $(BINDIR)/fio-lsvd"; fi
endif
ifneq ($(plugin_so),)
	install -d $(DESTDIR)$(ENGINEDIR)
	install -m 755 $(plugin_so) $(DESTDIR)$(ENGINEDIR)/nbdkit-lsvd-plugin.so
	@d=$(DESTDIR)$(NBDKITDIR); [ -z '$(DESTDIR)' ] || mkdir -p $$d; \
	if [ -n '$(NBDKITDIR)' ] && [ -w $$d ]; then \
	  echo "ln -sfn $(ENGINEDIR)/nbdkit-lsvd-plugin.so $$d/nbdkit-lsvd-plugin.so"; \
	  ln -sfn $(ENGINEDIR)/nbdkit-lsvd-plugin.so $$d/nbdkit-lsvd-plugin.so; \
	else echo "note: nbdkit's folder ($$d) is not writable, so it does not find 'lsvd'; use: nbdkit $(ENGINEDIR)/nbdkit-lsvd-plugin.so"; fi
endif
	@[ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || /sbin/ldconfig || true

uninstall:  ## remove what install put there
	rm -f $(addprefix $(DESTDIR),$(BINDIR)/lsvd $(BINDIR)/fio-lsvd $(INCLUDEDIR)/lsvd.h $(LIBDIR)/liblsvd.a $(LIBDIR)/liblsvd.so \
	  $(LIBDIR)/liblsvd.so.$(SOMAJOR) $(LIBDIR)/liblsvd.so.$(RELEASE) $(LIBDIR)/pkgconfig/lsvd.pc $(FIODIR)/fio-lsvd.so \
	  $(ENGINEDIR)/lsvd $(ENGINEDIR)/nbdkit-lsvd-plugin.so $(man_dest))
	@d=$(DESTDIR)$(SYSLIBDIR)/lsvd; [ "$$(readlink $$d)" != $(FIODIR)/fio-lsvd.so ] || { echo "rm -f $$d"; rm -f $$d; }
	@p=$(DESTDIR)$(NBDKITDIR)/nbdkit-lsvd-plugin.so; [ "$$(readlink $$p)" != $(ENGINEDIR)/nbdkit-lsvd-plugin.so ] || { echo "rm -f $$p"; rm -f $$p; }
	@rmdir $(DESTDIR)$(FIODIR) $(DESTDIR)$(ENGINEDIR) 2>/dev/null || true

clean:  ## remove what was built
	rm -rf $(O) $(O)-asan $(O)-ubsan $(O)-san $(O)-tsan $(O)-fuzz $(O)-mutants

help:  ## this list
	@echo "make [TARGET] [O=build] [PREFIX=/usr/local] [DESTDIR=] [CI=1: warnings are errors] [V=1: show commands]"
	@grep -hE '^[a-z_-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## */\t/' | sort | expand -t 16

.PHONY: all engine plugin optional fio-headers unit bench-micro fuzzers check test bench asan ubsan sanitizers tsan mutants soak fuzz lint-includes lint fmt setup \
        install uninstall clean help FORCE
-include $(shell [ ! -d $(O) ] || find $(O) -name '*.d')
