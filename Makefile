# The two commands a newcomer needs are `make demo` and `make test`.

GO            ?= go
BIN           := bin
VERSION       := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS       := -s -w -buildid= -X github.com/atomic-agent/atomic/internal/version.Version=$(VERSION)
# The pure-Go OpenPGP build needs no gpgme; docker/oci transports only.
AGENT_TAGS    := containers_image_openpgp
LAUNCH_TAGS   := seccomp,netgo,osusergo
DESTDIR       ?=

.PHONY: build check lint unit test bench demo shell clean install prepare

build: $(BIN)/atomic $(BIN)/atomic-launch

# Both binaries are static and depend on nothing but the source: no build path,
# no build id, no time.
$(BIN)/atomic: FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -tags '$(AGENT_TAGS)' -ldflags '$(LDFLAGS)' -o $@ ./agent/atomic

$(BIN)/atomic-launch: FORCE
	CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -tags '$(LAUNCH_TAGS)' -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static -Wl,--build-id=none"' -o $@ ./agent/atomic-launch

.PHONY: FORCE
FORCE:

clean:
	rm -rf $(BIN)
