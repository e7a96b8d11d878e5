# Sagong: one binary. `make up` starts a cluster, `make test` checks everything.
# Each target installs what it needs on Debian and Ubuntu, and names it elsewhere.

SHELL    := /bin/bash
# The last two leave out what is not wanted: a trace page that drags html/template
# in, and loading plugins, for which the linker keeps every method it knows.
# What only kubectl and old API versions need is compiled without inlining: 3 MB.
COLD     := k8s.io/kubectl k8s.io/cli-runtime k8s.io/client-go sigs.k8s.io/kustomize github.com/google/gnostic-models \
            $(foreach v,v1alpha1 v1alpha2 v1alpha3 v1beta1 v1beta2 v1beta3,k8s.io/api/.../$(v))
# What the server does most, which the compiler optimizes for: 4 to 9 % less
# processor time for a write (docs/decisions/memory.md).
PROFILE  := test/bench/server.pgo
# The overlay takes from Go's templates the search for methods by name, for which
# the linker keeps every method of every type: 17 MB. cli/methods.go has the few
# that help texts need (docs/decisions/memory.md).
GOFLAGS_ := -trimpath -tags netgo,osusergo,grpcnotrace,kustomize_disable_go_plugin_support,fewmethods -overlay $(CURDIR)/bin/overlay.json \
            -pgo=$(CURDIR)/$(PROFILE)
# In the environment, so that build and tests share what was compiled.
export GOFLAGS := $(foreach p,$(COLD),-gcflags=$(p)/...=-l)
# The built-in kubectl says its version and compares it with the server's.
KUBE     := $(shell sed -n 's/^const KubernetesVersion = "\(.*\)"/\1/p' config/version.go)
MINOR    := $(word 2,$(subst ., ,$(KUBE)))
VERSIONS := $(foreach p,component-base/version client-go/pkg/version,\
            -X k8s.io/$(p).gitVersion=$(KUBE) -X k8s.io/$(p).gitMajor=1 -X k8s.io/$(p).gitMinor=$(MINOR) -X k8s.io/$(p).gitTreeState=clean)
# The program starts 64 KiB beside a boundary of huge pages, because the kernel
# else counts all of the file as resident (docs/decisions/memory.md).
LDFLAGS  := -s -w -funcalign=16 -linkmode external -extldflags "-static -Wl,-Ttext-segment=0x410000" $(VERSIONS)
BENCHFLAGS = -flags '$(GOFLAGS_)' -ldflags '$(LDFLAGS)'
SOURCES  := go.mod go.sum $(shell find . -name '*.go' -not -name '*_test.go' -not -path './bin/*' -o -name '*.[ch]' -not -path './bin/*' -o -name '*.schema' -o -path '*/assets/*' -type f) $(PROFILE)

.PHONY: all build profile up down test unit race script bench clean needs needs-test help
all: build

help: ## list the targets
	@grep -hE '^[a-z0-9%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: bin/sagong ## build bin/sagong, a static binary

bin/overlay.json: Makefile | needs
	@mkdir -p bin
	@template="$$(go env GOROOT)/src/text/template/exec.go"; \
	sed -e 's/ptr\.MethodByName(fieldName)/methodOf(ptr, fieldName)/' -e 's/^import (/import (\n\t_ "unsafe"/' "$$template" >bin/template.go.src; \
	printf '\n//go:linkname methodOf\nvar methodOf func(v reflect.Value, name string) reflect.Value\n' >>bin/template.go.src; \
	grep -q 'methodOf(ptr' bin/template.go.src || { echo "Go's text/template is not as expected: see bin/overlay.json in the Makefile" >&2; exit 1; }; \
	printf '{"Replace": {"%s": "%s"}}\n' "$$template" "$(CURDIR)/bin/template.go.src" >$@

bin/sagong: $(SOURCES) bin/overlay.json | needs
	@mkdir -p bin
	@echo "building bin/sagong (the first time takes some minutes)"
	CGO_ENABLED=1 go build $(GOFLAGS_) -ldflags '$(LDFLAGS)' -o $@.tmp ./cmd/sagong
	@mv $@.tmp $@

up: build ## start a cluster on this machine and wait until its node is Ready
	@bin/sagong up

down: ## stop it and leave nothing behind
	@bin/sagong down --purge

test: needs-test build ## run every test: checks, unit tests, the race detector, user flows
	@test/run

bench: needs-test build ## print the figures of docs/status.md, measured now
	@go run ./test/bench -binary bin/sagong $(BENCHFLAGS)

bench-%: needs-test build ## print one row of the figures
	@go run ./test/bench -binary bin/sagong $(BENCHFLAGS) -only $*

profile: needs-test build ## measure anew what the compiler optimizes for
	@go run ./test/bench -binary bin/sagong -runs 2 -only creates,creates-protobuf,statuses,applies,gets,list-json,10k -profile $(PROFILE)

needs:
	@test/needs build

needs-test:
	@test/needs test

clean: ## remove what was built
	rm -rf bin
