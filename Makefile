# weir's tasks. `make` lists them. Needed: Go and make; everything else is
# fetched by Go, in the versions internal/tools/go.mod pins.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO    ?= go
TOOL   = $(GO) tool -modfile=internal/tools/go.mod
LINT   = $(TOOL) golangci-lint
BUF    = $(TOOL) buf

# The race detector needs a C compiler; without one Go turns cgo off.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

# The release that is built on, if there is one; else the binary says what the
# Go toolchain recorded.
VERSION ?= $(shell git describe --tags --dirty --match 'v*' 2>/dev/null)
LDFLAGS  = -s -w$(if $(VERSION), -X main.version=$(VERSION))

# What can be said on the command line: make fuzz FUZZTIME=1m
ARGS      ?=
PKG       ?= ./...
RUN       ?=
TESTFLAGS ?=
FUZZTIME  ?= 10s
FUZZ      ?= .
BENCH     ?= .
COUNT     ?= 1
ROUNDS    ?= 500
TORTURE   ?= 10m

.PHONY: help
help: ## List the targets
	@echo 'usage: make TARGET [NAME=VALUE ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build weir and start it (ARGS='--upstream URL' are weir's own)
	@bin/weir run $(ARGS)

.PHONY: build
build: ## Build bin/weir
	@$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/weir ./cmd/weir

.PHONY: test
test: ## Run all tests, with the race detector where there is a C compiler (PKG=./queue/... RUN=Name)
	@$(GO) test $(RACE) $(if $(RUN),-run '$(RUN)') $(TESTFLAGS) $(PKG)

.PHONY: lint
lint: ## Check Go and protobuf for mistakes and house rules
	@$(LINT) run
	@$(BUF) lint
	@.ci/breaking

.PHONY: fmt
fmt: ## Format Go and protobuf
	@$(LINT) fmt
	@$(BUF) format --write

.PHONY: fmt-check
fmt-check: ## Fail, and show how, if something is not formatted
	@$(LINT) fmt --diff
	@$(BUF) format --diff --exit-code

.PHONY: generate
generate: ## Make the Go code of proto/ anew
	@$(BUF) generate

.PHONY: generate-check
generate-check: ## Fail if the committed Go code of proto/ is not what generate makes
	@.ci/generate-check

.PHONY: fuzz
fuzz: ## Run every fuzz target for a while (FUZZTIME=10s FUZZ=REGEXP)
	@FUZZTIME='$(FUZZTIME)' .ci/fuzz '$(FUZZ)'

.PHONY: bench
bench: ## Run benchmarks (PKG=./queue BENCH=Commit COUNT=10); make bench > new; make benchstat OLD=old NEW=new
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(TESTFLAGS) $(PKG)

.PHONY: benchstat
benchstat: ## Compare two outputs of bench (OLD=old NEW=new)
	@$(TOOL) benchstat $(OLD) $(NEW)

.PHONY: interop
interop: build ## Deliver with real OpenTelemetry and LangSmith clients through weir (interop/)
	@interop/run

.PHONY: dashboard-test
dashboard-test: ## Look at the dashboard with a real Chromium (interop/browser; ARGS=--update makes its pictures anew)
	@interop/browser/run $(ARGS)

.PHONY: examples
examples: build ## Run the example clients of the native API against a weir (examples/)
	@examples/check

.PHONY: alerts-test
alerts-test: ## Test the Prometheus alerts of deploy/ with promtool, and the dashboard's expressions
	@.ci/alerts

.PHONY: live
live: ## Ask the real LangSmith what its documentation leaves open: at most 20 traces, LANGSMITH_API_KEY needed (docs/live.md)
	@$(GO) run ./internal/live/cmd/live $(ARGS)

.PHONY: torture
torture: ## Kill weir at random moments for long and count what is left (ROUNDS=500 TORTURE=10m)
	@WEIR_KILL_ROUNDS='$(ROUNDS)' $(GO) test -run Kill -count 1 -timeout 2h -v $(TESTFLAGS) ./queue
	@WEIR_TORTURE='$(TORTURE)' $(GO) test -count 1 -timeout 12h -v $(TESTFLAGS) ./internal/torture

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what weir is built from
	@$(TOOL) govulncheck ./...

.PHONY: tidy
tidy: ## Tidy all go.mod files
	@$(GO) mod tidy
	@cd internal/tools && $(GO) mod tidy
	@cd internal/tools/promtool && $(GO) mod tidy

.PHONY: ci
ci: ## Everything that CI checks
	@.ci/run

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin
