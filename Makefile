# SPDX-License-Identifier: Apache-2.0
# The two commands a newcomer needs are `make demo` and `make test`.

GO           ?= go
BIN          := bin
CACHE        ?= $(if $(ATOMIC_TEST_CACHE),$(ATOMIC_TEST_CACHE),$(HOME)/.cache/atomic-test)
VERSION      := $(shell git describe --tags --always 2>/dev/null || echo unknown)
LDFLAGS      := -s -w -buildid= -X github.com/atomic-agent/atomic/internal/version.Version=$(VERSION)
# The pure-Go OpenPGP build needs no gpgme.
AGENT_TAGS   := containers_image_openpgp
LAUNCH_TAGS  := seccomp,netgo,osusergo
ALL_TAGS     := $(AGENT_TAGS),seccomp
GOLANGCI     := $(CACHE)/tools/golangci-lint-v2.15.0
MD2MAN       := $(CACHE)/tools/go-md2man-v2.0.7
GOBUILD      := $(GO) build -trimpath -buildvcs=false

# Where `make install` puts files; the unit files and paths.Launcher assume it.
DESTDIR      ?=
bindir       := $(DESTDIR)/usr/bin
libexecdir   := $(DESTDIR)/usr/libexec/atomic
datadir      := $(DESTDIR)/usr/share
mandir       := $(datadir)/man
unitdir      := $(DESTDIR)/usr/lib/systemd/system

.PHONY: build man check fuzz lint unit repro system vm test bench bench-store demo shell install clean prepare FORCE

build: $(BIN)/atomic $(BIN)/atomic-launch $(BIN)/atomic-start $(BIN)/atomic-init $(BIN)/atomic-enter

$(BIN)/atomic: FORCE
	CGO_ENABLED=0 $(GOBUILD) -tags '$(AGENT_TAGS)' -ldflags '$(LDFLAGS)' -o $@ ./agent/atomic

$(BIN)/atomic-launch: FORCE
	CGO_ENABLED=1 $(GOBUILD) -tags '$(LAUNCH_TAGS)' -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static -Wl,--build-id=none"' -o $@ ./agent/atomic-launch

$(BIN)/atomic-start: $(BIN)/atomic-enter FORCE
	CGO_ENABLED=0 $(GOBUILD) -tags starter -ldflags "$(LDFLAGS) -X github.com/atomic-agent/atomic/agent/launch/setup.programSHA256=$$(sha256sum <$(BIN)/atomic-enter | cut -c1-64)" -o $@ ./agent/atomic-start

$(BIN)/atomic-init: agent/atomic-init/init.c
	mkdir -p $(BIN)
	$(CC) -static -Os -Wall -Werror -Wl,--build-id=none -s -o $@ $<

$(BIN)/atomic-enter: agent/atomic-enter/enter.c
	mkdir -p $(BIN)
	$(CC) -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie -fno-asynchronous-unwind-tables \
		-Os -Wall -Wextra -Werror -Wl,--build-id=none,-z,noexecstack -s -o $@ $<

FORCE:

# The man pages, and what shells complete. `make install` installs them if they are there.
man: $(MD2MAN) $(BIN)/atomic
	docs/man/render.sh $(MD2MAN) $(VERSION) $(BIN)/man
	mkdir -p $(BIN)/completions
	$(BIN)/atomic completion bash >$(BIN)/completions/atomic
	$(BIN)/atomic completion zsh >$(BIN)/completions/_atomic
	$(BIN)/atomic completion fish >$(BIN)/completions/atomic.fish

# What a package of atomic holds; nothing else belongs to the program.
install:
	install -D -m 0755 $(BIN)/atomic $(bindir)/atomic
	install -D -m 0755 $(BIN)/atomic-launch $(libexecdir)/atomic-launch
	install -D -m 0755 $(BIN)/atomic-start $(libexecdir)/atomic-start
	install -D -m 0755 $(BIN)/atomic-init $(libexecdir)/atomic-init
	install -D -m 0755 $(BIN)/atomic-enter $(libexecdir)/atomic-enter
	install -d $(DESTDIR)/usr/sbin $(unitdir)/multi-user.target.wants
	ln -sfn ../libexec/atomic/atomic-launch $(DESTDIR)/usr/sbin/mount.atomic
	install -D -m 0644 -t $(unitdir) $(wildcard agent/units/*.slice agent/units/*.service agent/units/*.socket agent/units/*.timer)
	ln -sfn ../atomic-register.service ../atomic-settle.service -t $(unitdir)/multi-user.target.wants
	install -D -m 0644 agent/units/tmpfiles.conf $(DESTDIR)/usr/lib/tmpfiles.d/atomic.conf
	install -D -m 0644 docs/atomic.conf $(DESTDIR)/etc/atomic/atomic.conf
	for page in $(wildcard $(BIN)/man/*); do install -D -m 0644 -t $(mandir)/man$${page##*.} $$page; done
	for file in $(wildcard $(BIN)/completions/atomic); do install -D -m 0644 -t $(datadir)/bash-completion/completions $$file; done
	for file in $(wildcard $(BIN)/completions/_atomic); do install -D -m 0644 -t $(datadir)/zsh/vendor-completions $$file; done
	for file in $(wildcard $(BIN)/completions/atomic.fish); do install -D -m 0644 -t $(datadir)/fish/vendor_completions.d $$file; done

# Installs what building, testing and the demo need (Debian 12 or 13).
prepare:
	test/prepare.sh

check: lint
	$(GO) test -count=1 ./internal/deptest

$(GOLANGCI):
	mkdir -p $(dir $@)
	GOBIN=$(dir $@)tmp $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(dir $@)tmp/golangci-lint $@

$(MD2MAN):
	mkdir -p $(dir $@)
	GOBIN=$(dir $@)tmp $(GO) install github.com/cpuguy83/go-md2man/v2@v2.0.7
	mv $(dir $@)tmp/go-md2man $@

lint: $(GOLANGCI)
	$(GOLANGCI) run --allow-parallel-runners --build-tags $(ALL_TAGS) ./...
	shellcheck .ci/run .ci/nightly $$(git ls-files '*.sh')

# The tests of the image format compare with upstream's program if they find it.
unit:
	ATOMIC_MKCOMPOSEFS="$$(test/oracle/mkcomposefs.sh)" ATOMIC_COMPOSEFS_ASSETS="$$(test/oracle/assets.sh)" $(GO) test -count=1 -tags $(ALL_TAGS) $$($(GO) list -tags $(ALL_TAGS) ./... | grep -v -e /test/system -e /test/vm)

# Every fuzz target for a while; .ci/nightly gives each ten minutes.
FUZZTIME ?= 30s
fuzz:
	test/fuzz.sh $(FUZZTIME)

# Built twice from different directories, all binaries must be equal.
repro: build
	test/repro.sh

system: build
	$(GO) test -count=1 -timeout 30m -v ./test/system

vm: build
	test/prepare.sh --vm
	$(GO) test -count=1 -timeout 30m -v ./test/vm/...

test: prepare build man check repro unit system vm

bench: prepare build
	$(GO) run ./test/bench/start

bench-store: prepare
	$(GO) run -tags $(ALL_TAGS) ./test/bench/store

demo: prepare build
	$(GO) run ./test/demo

shell: prepare build
	$(GO) run ./test/bed/cmd/bed shell

clean:
	rm -rf $(BIN)
