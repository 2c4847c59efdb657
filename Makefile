# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors

.DEFAULT_GOAL := help
SHELL := /bin/bash
export GOTOOLCHAIN := local
export CGO_ENABLED ?= 0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD := -trimpath -buildvcs=false -ldflags='-s -w -X main.version=$(VERSION)'
STATICCHECK := go tool -modfile=tools/go.mod staticcheck
CLANG := clang-14

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/juratd, bin/jurat, bin/jurat-broker (needs Go, nothing else)
	@mkdir -p bin
	go build $(GOFLAGS_BUILD) -o bin/ ./cmd/juratd ./cmd/jurat ./cmd/jurat-broker

.PHONY: demo
demo: ## the main job with real parts on this machine: five minutes to read, under one to run
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory build
	@go build $(GOFLAGS_BUILD) -o bin/demo ./scripts/demo
	@bin/demo

.PHONY: redteam
redteam: ## real attacks on a running jurat: what the kernel saw, who said no (three minutes)
	@scripts/setup.sh redteam
	@$(MAKE) --no-print-directory build
	@go build $(GOFLAGS_BUILD) -o bin/redteam ./scripts/redteam
	@bin/redteam

.PHONY: kernels
kernels: ## bpf in the kernels of Debian 12 and 13, emulated: tiers, signals, tests; writes docs/kernels.md
	@scripts/setup.sh kernels
	@go build -o bin/kernels ./scripts/kernels
	@bin/kernels

.PHONY: test
test: ## all tests, race detector on (installs what they need)
	@scripts/setup.sh test
	CGO_ENABLED=1 go test -race -timeout 20m ./...

.PHONY: check
check: ## gofmt, vet, staticcheck, import law, generated files, known vulnerabilities
	@scripts/setup.sh check
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	$(STATICCHECK) ./...
	go test -count=1 ./internal/rooms
	go mod verify
	go mod tidy -diff
	@$(MAKE) --no-print-directory generate
	@test -z "$$(git status --porcelain -- bpf spec/vectors)" || { git status --short -- bpf spec/vectors; echo "generated files differ from their sources: run 'make generate' and commit"; exit 1; }
	@scripts/vulncheck.sh

.PHONY: generate
generate: ## BPF objects and vectors, by one pinned clang
	@scripts/setup.sh generate
	@$(CLANG) --version | head -1
	go generate ./bpf ./verify

.PHONY: bench
bench: ## measurements against their limits: a table, and JSON lines in bench.jsonl (PARTS=execs for one)
	@scripts/setup.sh bench
	@$(MAKE) --no-print-directory build
	@go build $(GOFLAGS_BUILD) -o bin/bench ./scripts/bench
	@bin/bench $(PARTS)

.PHONY: fuzz
fuzz: ## every fuzz target for 30 seconds
	@scripts/fuzz.sh 30s

.PHONY: clean
clean: ## remove what build and bench made
	rm -rf bin bench.jsonl
