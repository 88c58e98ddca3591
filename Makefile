# SPDX-License-Identifier: GPL-2.0-or-later
# The only make file besides kmod/Kbuild. `make help` lists what it can do.
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DEFAULT_GOAL := all

B          ?= rel
O          ?= build/$(B)
CLANG      ?= clang
BPFTOOL    ?= /usr/sbin/bpftool
PKG_CONFIG ?= pkg-config
DESTDIR    ?=
PREFIX     ?= /usr
ifeq ($(origin CC),default)
CC         := cc
endif
Q          := $(if $(V),,@)
say         = @$(if $(V),:,printf '  %-8s %s\n' '$(1)' '$(patsubst $(O)/%,%,$(2))')

VERSION    := 0.1.0

# ---- flags: CFLAGS, CPPFLAGS and LDFLAGS stay the user's --------------------
CFLAGS       ?= -O2 -g
variant_dbg  := -O0 -g3
variant_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
variant_tsan := -O1 -g -fsanitize=thread
# clang's: `make fuzz`
variant_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
                -fno-omit-frame-pointer
variant_cov  := -O0 -g --coverage
own_cflags   := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DAMBRO_VERSION='"$(VERSION)"' \
                -I. -I$(O)/gen -pthread \
                -Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wshadow \
                -Wwrite-strings -Wundef -Wformat=2 -Wimplicit-fallthrough -Werror=implicit \
                -Wno-unused-parameter -fno-common -fstack-protector-strong
all_cflags    = $(own_cflags) $(CPPFLAGS) $(CFLAGS) $(variant_$(B)) $(pkg_cflags)
all_ldflags   = -pthread -Wl,--as-needed -Wl,-z,defs $(LDFLAGS) $(variant_$(B))

# ---- what is built: one list per folder, sorted -----------------------------
lib_srcs   := $(sort $(wildcard lib/*/*.c))
agent_srcs := $(sort $(filter-out agent/%main.c,$(wildcard agent/*.c)))
ctl_srcs   := $(sort $(filter-out ctl/main.c,$(wildcard ctl/*.c)))
unit_srcs  := $(sort $(wildcard tests/unit/test-*.c))
fuzz_srcs  := $(sort $(wildcard tests/fuzz/fuzz-*.c))
tool_srcs  := $(sort $(wildcard tests/lib/tool-*.c))
bench_srcs := $(sort $(wildcard tests/bench/repo-*.c))
obj         = $(patsubst %.c,$(O)/%.o,$(1))

lib_pkgs   := libzstd libcrypto jansson fdisk blkid ext2fs com_err
agent_pkgs := $(lib_pkgs) liburing libbpf libsystemd mount devmapper
# libsodium encrypts repositories and images, which is never the agent's business
ctl_pkgs   := $(lib_pkgs) liburing libsystemd mount libsodium
fuzz_pkgs  := $(sort $(agent_pkgs) $(ctl_pkgs))
test_pkgs  := $(fuzz_pkgs) cmocka
# "=" and not ":=", because `make deps` may have brought them only just now; not cmocka, which only tests need
pkg_cflags  = $(eval pkg_cflags := $(shell $(PKG_CONFIG) --cflags $(sort $(agent_pkgs) $(ctl_pkgs))))$(pkg_cflags)
libs_of     = $(shell $(PKG_CONFIG) --libs $(1)) $(mb_libs)

# multi-buffer SHA-256: packaged for this architecture only
ifeq ($(shell uname -m),x86_64)
own_cflags += -DHAVE_IPSEC_MB
mb_libs    := -lIPSec_MB
mb_debs    := libipsec-mb-dev
endif

unit_bins  := $(patsubst tests/%.c,$(O)/tests/%,$(unit_srcs))
fuzz_bins  := $(patsubst tests/%.c,$(O)/tests/%,$(fuzz_srcs))
tool_bins  := $(patsubst tests/%.c,$(O)/tests/%,$(tool_srcs))
bench_bins := $(patsubst tests/%.c,$(O)/tests/%,$(bench_srcs)) $(O)/tests/bench/slow-disk.so

.PHONY: all
all: $(O)/ambrod $(O)/ambro-guardian $(O)/ambroctl   ## build agent and command line

$(O)/libambro.a: $(call obj,$(lib_srcs))
$(O)/libagent.a: $(call obj,$(agent_srcs))
$(O)/libctl.a: $(call obj,$(ctl_srcs))
$(O)/%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(O)/ambrod: $(O)/agent/main.o $(O)/libagent.a $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(call libs_of,$(agent_pkgs))
# of the libraries what it uses of them, which is little: its start is waited for
$(O)/ambro-guardian: $(O)/agent/guardian_main.o $(O)/libagent.a $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^
$(O)/ambroctl: $(O)/ctl/main.o $(O)/libctl.a $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(call libs_of,$(ctl_pkgs))
$(O)/tests/unit/%: $(O)/tests/unit/%.o $(O)/libagent.a $(O)/libctl.a $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(call libs_of,$(test_pkgs))
# a fuzz target and the driver that replays its corpus, or libFuzzer's own: see tests/fuzz/
ifeq ($(B),fuzz)
fuzz_driver := -fsanitize=fuzzer
else
fuzz_driver := $(O)/tests/fuzz/replay.o
endif
$(O)/tests/fuzz/%: $(O)/tests/fuzz/%.o $(filter %.o,$(fuzz_driver)) $(O)/libagent.a $(O)/libctl.a $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(filter-out %.o,$(fuzz_driver)) $(call libs_of,$(fuzz_pkgs))
$(O)/tests/lib/%: $(O)/tests/lib/%.o $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(call libs_of,$(lib_pkgs) libsystemd)

$(O)/tests/bench/%: $(O)/tests/bench/%.o $(O)/libambro.a
	$(call say,LD,$@)
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(call libs_of,$(lib_pkgs) libsodium)
# for LD_PRELOAD
$(O)/tests/bench/slow-disk.so: tests/bench/slow-disk.c
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -O2 -Wall -Wextra -shared -fPIC -o $@ $< -ldl

$(O)/%.o: %.c $(O)/.flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(all_cflags) -MMD -MP -c -o $@ $<

# objects depend on the flags they were built with; two that begin at once each have a file of their own
$(O)/.flags: force
	@mkdir -p $(@D); new=$@.$$$$; printf '%s\n' '$(CC) $(subst ','\'',$(all_cflags))' >$$new; \
	cmp -s $$new $@ && rm -f $$new || mv $$new $@
.PHONY: force

# ---- BPF: track.bpf.c -> .bpf.o -> skeleton under $(O)/gen ------------------
# No vmlinux.h: the few kernel structures that are read are declared by hand, relocated by CO-RE.
bpf_arch := $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(shell uname -m)))
$(O)/ebpf/%.bpf.o: ebpf/%.bpf.c
	$(call say,BPF,$@)
	@mkdir -p $(@D)
	$(Q)$(CLANG) -g -O2 -target bpf -D__TARGET_ARCH_$(bpf_arch) -Wall -I. \
		-I/usr/include/$(shell $(CC) -print-multiarch) -MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@ $<
$(O)/gen/%.skel.h: $(O)/ebpf/%.bpf.o
	$(call say,SKEL,$@)
	@mkdir -p $(@D)
	$(Q)$(BPFTOOL) gen skeleton $< name $(subst -,_,$*) >$@
$(O)/agent/tracker.o: $(O)/gen/track.skel.h

# ---- the kernel module: make kmod KDIR=… --------------------------------------
# Kbuild writes beside its sources, so these are copied to where it may.
KDIR   ?= /lib/modules/$(shell uname -r)/build
KMOD_O ?= $(O)/kmod
.PHONY: kmod install-kmod
kmod:                     ## build ambro.ko for the kernel whose headers are in KDIR, into KMOD_O
	$(Q)mkdir -p $(KMOD_O) && cp -p kmod/*.[ch] kmod/Kbuild kmod/probe.sh $(KMOD_O)/
	$(Q)env -u MAKEFLAGS -u MAKEOVERRIDES -u MFLAGS $(MAKE) --no-print-directory -C $(abspath $(KDIR)) \
		M=$(abspath $(KMOD_O)) AMBRO_RELEASE=$(VERSION) $(if $(V),,--silent) modules
# DKMS makes it anew for every kernel: dkms install ambro/$(VERSION)
install-kmod:             ## the module's source for DKMS, and the udev rule for its devices, into $(DESTDIR)
	install -D -m 644 -t $(DESTDIR)/usr/src/ambro-$(VERSION) kmod/*.[ch] kmod/Kbuild kmod/dkms.conf
	install -D -m 755 -t $(DESTDIR)/usr/src/ambro-$(VERSION) kmod/probe.sh
	install -D -m 644 -t $(DESTDIR)/usr/lib/udev/rules.d kmod/60-ambro.rules

# ---- what a fresh Debian lacks ----------------------------------------------
build_debs := gcc make pkg-config libc6-dev clang llvm bpftool libbpf-dev liburing-dev libsystemd-dev \
              libzstd-dev libssl-dev libjansson-dev libblkid-dev libfdisk-dev libmount-dev \
              libext2fs-dev libdevmapper-dev libsodium-dev $(mb_debs)
run_debs   := partclone xfsprogs btrfs-progs dosfstools e2fsprogs fdisk util-linux
quick_debs := jq python3 mtools
test_debs  := $(quick_debs) python3-nacl libcmocka-dev zstd fio ntfs-3g f2fs-tools exfatprogs gdisk systemd \
              systemd-container dbus shellcheck clang-format clang-tidy git man-db mandoc
# for the tests of the hooks' examples; where these are not, they are skipped
db_debs    := postgresql mariadb-server
vm_debs    := qemu-system-x86 busybox-static cpio kmod dmsetup fdisk xz-utils zstd lvm2
full_debs  := mmdebstrap ovmf grub-pc-bin grub-efi-amd64-bin grub-common mtools dosfstools qemu-utils gdisk
bench_debs := qemu-utils fsarchiver borgbackup restic casync
missing     = $(shell for p in $(1); do dpkg-query -W -f='$${Status}\n' $$p 2>/dev/null | \
	grep -q 'ok installed' || echo $$p; done)
define install_debs
	@m='$(call missing,$(1))'; if [ -n "$$m" ]; then echo "installing: $$m"; \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	--no-install-recommends $$m; } >build/apt.log 2>&1 || { cat build/apt.log; exit 1; }; fi
endef
.PHONY: deps deps-quick deps-test deps-db deps-bench deps-vm
deps:          ## install what building and running needs (Debian, root)
	@mkdir -p build
	$(call install_debs,$(build_debs) $(run_debs))
deps-quick: deps
	$(call install_debs,$(quick_debs))
deps-test: deps
	$(call install_debs,$(test_debs))
deps-db: deps-test         ## install database servers, which tests of hooks need (root)
	$(call install_debs,$(db_debs))
deps-bench: deps-test
	$(call install_debs,$(bench_debs))
deps-vm: deps-test
	$(call install_debs,$(vm_debs))

# ---- tests ------------------------------------------------------------------
.PHONY: tests check check-unit check-asan check-tsan check-vm check-vm-full check-style check-layers quickstart bench bench-increments bench-repo bench-freeze bench-scale bench-origin soak fuzz fuzz-targets
TIERS ?= style unit fuzz integration
tests: all $(unit_bins) $(fuzz_bins) $(tool_bins)

check: deps-test          ## install, build, run all tests (root), or TIERS="unit fuzz" of them
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) tests
	$(Q)O=$(O) tests/run.sh $(TIERS)
check-unit: tests         ## unit tests and fuzz corpora only (no root)
	$(Q)O=$(O) tests/run.sh unit fuzz
check-asan: deps-test     ## all but style under ASan, LSan and UBSan (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) B=asan O=build/asan tests
	$(Q)O=build/asan tests/run.sh unit fuzz integration
check-tsan: deps-test     ## the same under TSan (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) B=tsan O=build/tsan tests
	$(Q)O=build/tsan tests/run.sh unit fuzz integration
fuzz:                     ## look for inputs that break a parser: FUZZ_SECONDS (60) each, FUZZ=NAME for one (clang)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) B=fuzz O=build/fuzz CC=$(CLANG) fuzz-targets
	$(Q)O=build/fuzz tests/fuzz/fuzz.sh $(FUZZ)
fuzz-targets: $(fuzz_bins)
check-vm: deps-vm         ## device-mapper and the module in virtual machines, without KVM: KERNELS="6.1 6.12", TESTS=GLOB (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) tests
	$(Q)O=$(O) tests/vm/all.sh
check-vm-full: deps-vm    ## a whole Debian system imaged while it runs, and booted from what was restored (root)
	$(call install_debs,$(full_debs))
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) tests
	$(Q)for k in $${KERNELS:-6.1 6.12}; do tests/vm/kernels.sh $$k && $(MAKE) --no-print-directory kmod \
		KDIR=build/vm/kernels/$$k/build KMOD_O=build/vm/kmod/$$k || exit 1; done
	$(Q)O=$(O) tests/vm/debian/all.sh
check-layers:             ## the include table of docs/ARCHITECTURE.md
	$(Q)tests/check/layers.py .
check-style: check-layers ## formatting, clang-tidy, shellcheck, layers
	$(Q)O=$(O) tests/run.sh style

quickstart: deps-quick    ## capture a live mounted disk and prove the restore (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all $(tool_bins)
	$(Q)O=$(O) tests/quickstart.sh
bench: deps-bench         ## us and the peers on the same data: the first capture, and later ones (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)O=$(O) tests/bench/bench.sh
	$(Q)O=$(O) tests/bench/increments.sh
bench-increments: deps-bench  ## of that: what a second capture costs, ours and the peers' (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)O=$(O) tests/bench/increments.sh
bench-repo: deps-test     ## a repository of 100 TiB, a chain of 30 images on a slow disk, what a store is asked (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all $(bench_bins)
	$(Q)O=$(O) tests/bench/repo.sh
bench-freeze: deps-test   ## how long file systems stand still, and what a writer feels (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)O=$(O) tests/bench/freeze.sh
bench-scale: deps-test    ## the same files on disks of 1, 4 and 16 TiB: time and memory (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)O=$(O) tests/bench/scale.sh
bench-origin: deps-vm     ## what a snapshot costs the disk's own writes, beside LVM's (in virtual machines; root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) tests
	$(Q)for k in $${BENCH_KERNELS:-6.1 6.12}; do tests/vm/kernels.sh $$k && tests/vm/guest.sh $$k && \
		$(MAKE) --no-print-directory kmod KDIR=build/vm/kernels/$$k/build KMOD_O=build/vm/kmod/$$k || exit 1; done
	$(Q)O=$(O) tests/bench/origin.sh
soak: deps-test           ## many rounds of a capture under every load, SOAK_ROUNDS=20 (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) tests
	$(Q)O=$(O) tests/soak.sh

# ---- install ------------------------------------------------------------------
.PHONY: install clean help compile_commands.json
install: all              ## into $(DESTDIR)$(PREFIX)
	install -D -m 755 $(O)/ambrod $(DESTDIR)$(PREFIX)/sbin/ambrod
	install -D -m 755 $(O)/ambro-guardian $(DESTDIR)$(PREFIX)/libexec/ambro/ambro-guardian
	install -D -m 755 $(O)/ambroctl $(DESTDIR)$(PREFIX)/bin/ambroctl
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system systemd/*.service systemd/*.socket systemd/*.timer
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/ambro docs/OPERATING.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/ambro/examples systemd/examples/*
	install -d -m 755 $(DESTDIR)/etc/ambro/captures.d
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/share/ambro/hooks systemd/hooks/*.sh
	install -d -m 755 $(DESTDIR)/etc/ambro/hooks.d
	install -D -m 644 systemd/ambro.sysusers $(DESTDIR)/usr/lib/sysusers.d/ambro.conf
	install -D -m 644 systemd/ambro.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/ambro.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/man/*.1
	install -D -m 644 ctl/ambroctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ambroctl

compile_commands.json:    ## for clangd and clang-tidy
	$(Q){ echo '['; first=1; for f in $(lib_srcs) agent/main.c agent/guardian_main.c $(agent_srcs) ctl/main.c $(ctl_srcs); do \
	[ $$first ] || echo ','; first=; printf '{"directory":"%s","file":"%s","arguments":[' "$(CURDIR)" "$$f"; \
	for a in $(CC) $(foreach w,$(all_cflags),'$(subst ",\\",$(w))') -c; do printf '"%s",' "$$a"; done; \
	printf '"%s"]}' "$$f"; done; echo ']'; } >$@

clean:                    ## remove build/
	$(Q)rm -rf build compile_commands.json
help:                     ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { split($$1, t, ":"); printf "  make %-14s %s\n", t[1], $$2 }' Makefile

-include $(shell find $(O) -name '*.d' 2>/dev/null)
