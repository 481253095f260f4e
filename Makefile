# SPDX-License-Identifier: LGPL-2.1-or-later
# One non-recursive makefile.  `make help` lists the targets.

O       ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
CFLAGS  ?= -O2 -g
WERROR  ?= $(if $(CI),-Werror)
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

# -Wno-stringop-overflow: GCC 12 misjudges the bounds of inlined cursors (sys/bytes.h)
WARN  := -Wall -Wextra -Wshadow -Wvla -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
         -Wformat=2 -Wimplicit-fallthrough -Wundef -Wno-stringop-overflow $(WERROR)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread -MMD -MP -Icore -I. \
             $(WARN) $(CFLAGS) $(SAN)
LIBS  := -luring -ljansson -lisal -lpthread -lm

.DEFAULT_GOAL := all
.SECONDARY:
.SUFFIXES:

lib_src  := $(wildcard core/sys/*.c core/store/*.c core/format/*.c core/map/*.c core/pool/*.c \
            core/journal/*.c core/cache/*.c core/volume/*.c core/image/*.c)
tool_src := $(wildcard cli/*.c trace/*.c reorg/*.c results/*.c)
test_src := $(wildcard core/test/test_*.c trace/test/test_*.c reorg/test/test_*.c results/test/test_*.c)
test_lib := $(filter-out $(wildcard core/test/test_*.c core/test/fuzz_*.c core/test/bench_*.c),$(wildcard core/test/*.c))

obj = $(patsubst %.c,$(O)/%.o,$(1))
tests := $(patsubst %.c,$(O)/test/%,$(notdir $(test_src)))

all: $(O)/liblsvd.a $(O)/liblsvd.so $(O)/lsvd  ## build the library and the tool

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/cli/main.o: ALL_CFLAGS += -DLSVD_VERSION='"$(VERSION)"'

$(O)/liblsvd.a: $(call obj,$(lib_src))
	@rm -f $@
	ar rcs $@ $^

$(O)/liblsvd.so: $(call obj,$(lib_src)) core/lsvd.map
	$(CC) -shared $(SAN) -Wl,-soname,liblsvd.so.0 -Wl,--version-script=core/lsvd.map -o $@ \
	  $(call obj,$(lib_src)) $(LIBS)

$(O)/lsvd: $(call obj,$(tool_src)) $(O)/liblsvd.a
	$(CC) $(SAN) -o $@ $^ $(LIBS)

# A test links everything but the tool's main, so that it can reach any room of the house.
vpath test_%.c core/test trace/test reorg/test results/test
test_objs := $(call obj,$(test_lib) $(filter-out cli/main.c,$(tool_src)))
define test_rule
$(O)/test/$(basename $(notdir $(1))): $(O)/$(basename $(1)).o $$(test_objs) $(O)/liblsvd.a
	@mkdir -p $$(@D)
	$$(CC) $$(SAN) -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach t,$(test_src),$(eval $(call test_rule,$(t))))

unit: $(tests)  ## build the unit tests

check: all unit  ## quick tests: no network, no root, under a minute
	@ci/check $(O)

clean:  ## remove what was built
	rm -rf $(O)

help:  ## this list
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort | expand -t 12

.PHONY: all unit check clean help
-include $(shell find $(O) -name '*.d' 2>/dev/null)
