# Flask Track: every target does its own set-up and is safe to repeat.

# Of `make run`: the folder, and for a new cluster the first port (8443) and how many nodes (3).
DATA  ?= .flasktrack/dev
PORT  ?=
NODES ?=
SWIFT ?= swift
# QUICK=1 makes `make bench` a smoke run.
QUICK ?=

sources := Package.swift Sources Tests Benchmarks
protos  := Sources/NodeRuntime/Peers

.DEFAULT_GOAL := help
.PHONY: help setup setup-test run test build release lint format bench proto docs-check docker-check clean

help: ## list these targets
	@echo 'Flask Track. Targets (make run DATA=$(DATA) PORT=8443 NODES=3):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install what a build needs (Debian packages, DuckDB); called by the others
	@scripts/setup.sh

run: setup ## build for release and start a cluster on this machine with a small demo; Ctrl-C stops it
	@$(SWIFT) build -c release --product ftnode
	@exec .build/release/ftnode dev --data '$(DATA)' $(if $(NODES),--nodes $(NODES)) $(if $(PORT),--port $(PORT)) --demo

setup-test: ## the same, and what the tests need besides
	@scripts/setup.sh test

test: setup-test ## build for debug and run all tests
	$(SWIFT) build --build-tests
	$(SWIFT) test --skip-build --disable-xctest --skip '^ClusterTests\.'
	$(SWIFT) test --skip-build --disable-xctest --filter '^ClusterTests\.'

build: setup ## build for debug
	$(SWIFT) build

release: setup ## build ftnode for release
	$(SWIFT) build -c release --product ftnode

lint: setup ## check the format and the rules that no compiler checks
	$(SWIFT) format lint --strict --parallel --recursive $(sources)
	scripts/check-rules.sh

format: ## format all sources in place
	$(SWIFT) format --in-place --parallel --recursive $(sources)

bench: ## compare with etcd, nghttpd and DuckDB on this machine (under six minutes; QUICK=1 for a smoke run)
	@QUICK='$(QUICK)' scripts/bench.sh

proto: setup ## make the Swift code of the peer messages again (needs protoc)
	@command -v protoc >/dev/null || { echo 'proto: protoc is missing: apt-get install protobuf-compiler' >&2; exit 1; }
	$(SWIFT) build -c release --product protoc-gen-swift
	protoc --plugin=protoc-gen-swift=.build/release/protoc-gen-swift --proto_path=$(protos) \
	  --swift_out=$(protos)/Generated --swift_opt=Visibility=Internal,UseAccessLevelOnImports=true peer.proto

docs-check: setup ## check that what the documents name exists
	$(SWIFT) test --disable-xctest --filter ProjectTests.DocumentTests

docker-check: setup ## check Dockerfile and docker-compose.yml; with an engine at hand, also that compose reads them
	$(SWIFT) test --disable-xctest --filter ProjectTests.ContainerTests
	@if docker compose version >/dev/null 2>&1; then docker compose config --quiet; \
	  else echo 'docker-check: no container engine here, so nothing was built'; fi

clean: ## remove what was built (not DuckDB, not the data of a cluster)
	rm -rf .build
