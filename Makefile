# rebarfs. The two commands: sudo make demo, sudo make check. Everything else: make help.
PREFIX    ?= /usr
DESTDIR   ?=
SBINDIR   ?= $(PREFIX)/sbin
MANDIR    ?= $(PREFIX)/share/man
BUILD     ?= build
CC        ?= cc
CFLAGS    ?= -O2 -g
WARN      := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wformat=2 -Wno-unused-parameter -Wno-missing-field-initializers
WERROR    ?= -Werror
PKGS      := fuse3 sqlite3 libssh2 libuv jansson libcrypto inih
VERSION   := $(shell sed -n 's/^\#define REBARFS_VERSION "\(.*\)"/\1/p' fs/version.h)

# Looked up when a recipe runs: 'make deps' may have installed them a moment ago.
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   = $(shell pkg-config --libs $(PKGS))
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DFUSE_USE_VERSION=314 -I. $(WARN) $(WERROR) -pthread $(PKG_CFLAGS) $(CFLAGS) $(SAN)
ALL_LIBS   = $(PKG_LIBS) -pthread -lm

SRCS   := $(filter-out fs/main.c,$(wildcard fs/*.c fs/*/*.c providers/*.c providers/*/*.c runners/*.c runners/*/*.c))
OBJS   := $(SRCS:%.c=$(BUILD)/obj/%.o)
UNITS  := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-6s %s\n'
endif

.PHONY: all deps check demo bench install uninstall asan tsan fuzz lint clean help units
all: $(BUILD)/rebarfs

$(BUILD)/rebarfs: $(BUILD)/obj/fs/main.o $(BUILD)/librebarfs.a
	$(say) LINK $@
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)

$(BUILD)/librebarfs.a: $(OBJS)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/%.o: %.c
	$(say) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/librebarfs.a
	$(say) TEST $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(BUILD)/librebarfs.a $(LDFLAGS) $(ALL_LIBS) -lcriterion

units: $(UNITS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
