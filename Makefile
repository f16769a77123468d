# Every target needs only Go, make and bash, except where its line says more. `make help` lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FUZZTIME ?= 30s
BENCH_ARGS ?=

.PHONY: help run build test check verify generate bench soak fuzz clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## builds and starts a throw-away server with a sample train; prints what to paste
	go run ./cmd/signalbox dev

build: ## builds bin/signalbox, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/signalbox ./cmd/signalbox

check: ## the quick gate before a commit (SQLite only, well under 90 s once built)
	@scripts/check.sh

test: ## everything that must pass before a merge, on SQLite and PostgreSQL; installs PostgreSQL and gcc when they are missing
	@scripts/test.sh

verify: ## fails when go.mod or a generated file is not current, or the OpenAPI document has flaws
	@scripts/generate.sh --check
	@scripts/openapi.sh

generate: ## writes the generated files
	@scripts/generate.sh

bench: ## measures Signalbox against a bare reverse proxy (BENCH_ARGS are passed on)
	go run ./internal/bench $(BENCH_ARGS)

soak: ## the long tests at full size, up to three hours
	@scripts/soak.sh

fuzz: ## runs each fuzz target for FUZZTIME (30s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

clean: ## removes what the build left in this directory
	rm -rf bin dist
