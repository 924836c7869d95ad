# rebarfs. The two commands: sudo make demo, sudo make check. Everything else: make help.
PREFIX  ?= /usr
prefix  ?= $(PREFIX)
DESTDIR ?=
BINDIR  := $(DESTDIR)$(prefix)
BUILD   ?= build
CC      ?= cc
CFLAGS  ?= -O2 -g
WERROR  ?= -Werror
WARN    := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wformat=2 -Wno-unused-parameter -Wno-missing-field-initializers
PKGS    := fuse3 sqlite3 libssh2 libuv jansson libcrypto libssl libcurl inih

# What Debian's bare installation lacks: to build, and to run on containers and with ansible.
DEPS_DEMO := gcc libc6-dev make pkg-config libfuse3-dev libsqlite3-dev libssh2-1-dev libinih-dev libuv1-dev libjansson-dev libssl-dev libcurl4-openssl-dev uthash-dev \
	fuse3 mmdebstrap debian-archive-keyring systemd-container util-linux iproute2 iptables openssh-client ansible-core git
# To test and measure. Not for the demo: openssh-server would start an ssh server on the machine of whoever only wants to look.
DEPS := $(DEPS_DEMO) qemu-system-x86 qemu-utils e2fsprogs openssh-server libcriterion-dev busybox curl jq python3 rsync vim-tiny nano emacs-nox procps bsdextrautils ninja-build clang libclang-rt-dev sqlite3 \
	openipmi ipmitool dnsmasq-base ipxe-qemu openssl python3-boto3
# For 'make lint' alone.
DEPS_DEV := clang-tidy cppcheck

# In parallel unless told otherwise; a make within make shares the jobs of the outer one.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory

# Looked up once, when the first recipe wants them: 'make deps' may have installed them a moment ago.
lookup = $(or $(shell pkg-config $(1) $(PKGS)),$(error libraries are missing: run 'sudo make deps'))
PKG_CFLAGS = $(eval PKG_CFLAGS := $(call lookup,--cflags))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(call lookup,--libs))$(PKG_LIBS)
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DFUSE_USE_VERSION=314 -Duthash_malloc=xmalloc -I. $(WARN) $(WERROR) -pthread $(PKG_CFLAGS) $(CFLAGS) $(SAN)
ALL_LIBS   = $(LDFLAGS) $(PKG_LIBS) -pthread -lm

SRCS  := $(filter-out fs/main.c,$(wildcard fs/*.c fs/*/*.c providers/*.c providers/*/*.c runners/*.c runners/*/*.c))
OBJS  := $(SRCS:%.c=$(BUILD)/obj/%.o)
UNITS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
FUZZ  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

ifeq ($(V),1)
say = @:
else
Q := @
say = @printf '  %-6s %s\n'
endif

.PHONY: all deps deps-demo deps-dev units check check-layers check-units check-asan check-fuzz check-e2e demo bench install uninstall asan tsan fault check-fault fuzz run-fuzz lint clean help
all: $(BUILD)/rebarfs ## the program, build/rebarfs

$(BUILD)/rebarfs: $(BUILD)/obj/fs/main.o $(BUILD)/librebarfs.a
	$(say) LINK $@
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/librebarfs.a: $(OBJS)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/%.o: %.c
	$(say) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# A program of one file, with the library behind it: unit tests, benchmarks, fuzzers.
define program
$(BUILD)/$(1)/%: tests/$(1)/%.c $(BUILD)/librebarfs.a
	$$(say) $(2) $$@
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) -MMD -MP -MF $$@.d -o $$@ $$< $(BUILD)/librebarfs.a $(3) $$(ALL_LIBS)
endef
$(eval $(call program,unit,TEST,-lcriterion))
$(eval $(call program,bench,BENCH))
$(eval $(call program,fuzz,FUZZ,-fsanitize=fuzzer))

units: $(UNITS)

# No network the second time: apt is asked only for what dpkg does not know as installed.
install_missing = @missing=; for p in $(1); do dpkg-query -Wf '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] || { echo "as root, these are to be installed:$$missing"; exit 1; }; echo "installing$$missing"; export DEBIAN_FRONTEND=noninteractive; get="apt-get -qy --no-install-recommends install $$missing"; \
	$$get || { apt-get -q update && $$get; }; }
deps: ## Debian's packages that building, running, checking and bench need (as root)
	$(call install_missing,$(DEPS))
deps-demo: ## those of them that building and running need
	$(call install_missing,$(DEPS_DEMO))
deps-dev: ## those that fuzz and lint need
	$(call install_missing,$(DEPS_DEV))

check: ## everything: layers, unit tests, fuzzers, the same under sanitizers, end to end. As root it installs what it needs
	@[ "$$(id -u)" != 0 ] || $(MAKE) deps
	+@$(MAKE) all units && rc=0 && for part in layers units fuzz asan fault e2e; do echo "== $$part"; $(MAKE) check-$$part || rc=1; done; exit $$rc
check-layers:
	@tests/layers
check-units: units
	@failed=; for t in $(UNITS); do echo "$$t"; timeout 300 $$t || failed="$$failed $$t"; done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }
check-e2e: all
	@BUILD=$(BUILD) tests/e2e/run $(E2E)
check-asan: asan

# Reports go to files: criterion counts a test that leaks as passed, and a daemon's stderr is nobody's.
SANITIZED = +@report=$(abspath $(BUILD)-$(1))/report; rm -f $$report.*; export LSAN_OPTIONS=print_suppressions=0 ASAN_OPTIONS=log_path=$$report TSAN_OPTIONS=log_path=$$report UBSAN_OPTIONS=log_path=$$report; \
	$(MAKE) BUILD=$(BUILD)-$(1) SAN='$(2)' CFLAGS='-O1 -g -fno-omit-frame-pointer' all $(3) && $(foreach p,$(3),$(MAKE) BUILD=$(BUILD)-$(1) check-$(p) &&) \
	BUILD=$(BUILD)-$(1) tests/e2e/run $(4); rc=$$?; ! cat $$report.* 2>/dev/null && exit $$rc
asan: ## unit tests and end-to-end tests on fake nodes under the address and undefined-behaviour sanitizers
	$(call SANITIZED,asan,-fsanitize=address$(,)undefined -fno-sanitize-recover=all,units,fake)
fault: ## the daemon killed at every step and at random, its database and files taken away; a table of what was lost
	@[ "$$(id -u)" != 0 ] || $(MAKE) deps
	+@$(MAKE) BUILD=$(BUILD)-fault CFLAGS='-O2 -g -DREBARFS_FAULT' all $(BUILD)-fault/fault/trouble.so
	@BUILD=$(BUILD)-fault tests/fault/run
check-fault:
	+@$(MAKE) BUILD=$(BUILD)-fault CFLAGS='-O2 -g -DREBARFS_FAULT' all $(BUILD)-fault/fault/trouble.so
	@BUILD=$(BUILD)-fault FAULT_STEP=12 FAULT_KILLS=15 FAULT_STOP=5 tests/fault/run
$(BUILD)/fault/%.so: tests/fault/%.c
	$(Q)mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(WARN) $(WERROR) -O2 -shared -fPIC -o $@ $< -ldl

# Without unit tests: criterion 2.4.1 itself crashes under it before the first of them (SEGV in libcriterion.so.3).
tsan: ## end-to-end tests on fake nodes under the thread sanitizer
	$(call SANITIZED,tsan,-fsanitize=thread,,fake values readers documents listings full-disk)
, := ,

# Fuzzers look at what reads text that somebody else wrote, and are built from that alone: it takes seconds.
FUZZING = $(MAKE) BUILD=$(BUILD)-fuzz CC="$(or $(CLANG),clang)" WARN=-w SAN='-fsanitize=fuzzer-no-link,address,undefined' \
	SRCS='$(wildcard fs/base/*.c fs/desired/*.c)' run-fuzz
fuzz: ## each fuzzer for FUZZ_SECONDS (10)
	@[ "$$(id -u)" != 0 ] || $(MAKE) deps
	+@$(FUZZING)
check-fuzz:
	+@$(FUZZING) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),2)
# entropic: its bookkeeping takes nine tenths of the time where inputs are whole repos.
run-fuzz: $(FUZZ)
	@for f in $(FUZZ); do n=$${f##*/}; seeds=tests/fuzz/$$n.seeds; mkdir -p $(BUILD)/corpus/$$n; [ -d $$seeds ] || seeds=; \
	$$f -verbosity=0 -entropic=0 -print_final_stats=1 -max_total_time=$(or $(FUZZ_SECONDS),10) -artifact_prefix=$(BUILD)/$$n- $(BUILD)/corpus/$$n $$seeds >$(BUILD)/$$n.log 2>&1 || \
	{ tail -n 60 $(BUILD)/$$n.log; exit 1; }; echo "$$n: $$(sed -n 's/^stat::number_of_executed_units: *//p' $(BUILD)/$$n.log) inputs"; done

# Left out: what they say here is style (bugprone) or wrong about lists, heaps and va_list (analyzer, cppcheck); the sanitizers see those for real.
TIDY := -*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-assignment-in-if-condition,-bugprone-implicit-widening-of-multiplication-result,$\
	-bugprone-narrowing-conversions,-bugprone-suspicious-string-compare,-bugprone-sizeof-expression,-bugprone-reserved-identifier,$\
	clang-analyzer-core.*,-clang-analyzer-core.NonNullParamChecker,clang-analyzer-deadcode.*,clang-analyzer-unix.API
lint: ## cppcheck and clang-tidy
	@[ "$$(id -u)" != 0 ] || $(MAKE) deps deps-dev
	cppcheck -q -j$(shell nproc) --std=c11 --enable=warning,portability --inline-suppr --suppress=unknownMacro --suppress=uninitvar --suppress=internalAstError --suppress=arrayIndexThenCheck --error-exitcode=1 -I. fs providers runners
	@printf '%s\n' fs/main.c $(SRCS) | xargs -P$(shell nproc) -n4 sh -c 'clang-tidy --quiet --warnings-as-errors="*" --checks="$(TIDY)" "$$@" -- $(ALL_CFLAGS) 2>/dev/null' tidy

demo: ## a three-node etcd cluster from a directory of small files, shown and torn down (as root)
	@$(MAKE) deps-demo
	+@$(MAKE) all
	@BUILD=$(BUILD) contrib/demo

bench: ## measurements beside their peers, one table
	@[ "$$(id -u)" != 0 ] || $(MAKE) deps
	+@$(MAKE) all $(BENCH)
	@BUILD=$(BUILD) tests/bench/run $(PARTS)

# source : destination below prefix : mode
INSTALLED = $(BUILD)/rebarfs:sbin/rebarfs:755 contrib/man/rebarfs.8:share/man/man8/rebarfs.8:644 \
	contrib/git-hooks/pre-commit:share/rebarfs/git-hooks/pre-commit:755 \
	contrib/completion/rebarfs:share/bash-completion/completions/rebarfs:644 contrib/systemd/rebarfs@.service:lib/systemd/system/rebarfs@.service:644 \
	$(foreach f,$(shell find contrib/examples -type f 2>/dev/null),$(f):share/doc/rebarfs/$(f:contrib/%=%):$(if $(shell test -x $(f) && echo x),755,644))
install: all ## into DESTDIR and prefix (/usr)
	$(Q)for i in $(INSTALLED); do d=$${i#*:}; install -D -m $${d#*:} $${i%%:*} "$(BINDIR)/$${d%:*}" || exit 1; done
	$(Q)sed -i 's|/usr/sbin/|$(prefix)/sbin/|' "$(BINDIR)/lib/systemd/system/rebarfs@.service"
uninstall: ## what install put there; state and images stay
	$(Q)for i in $(INSTALLED); do d=$${i#*:}; rm -f "$(BINDIR)/$${d%:*}"; done; rm -rf "$(BINDIR)/share/doc/rebarfs" "$(BINDIR)/share/rebarfs"

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz

help: ## this
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
