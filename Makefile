# Flask Track: every target does its own set-up and is safe to repeat.

# Of `make run`: the folder, and for a new cluster the first port (8443) and how many nodes (3).
DATA  ?= .flasktrack/dev
PORT  ?=
NODES ?=
SWIFT ?= swift
# Of `make sim`: how many seeds, and the first one. Of `make scenario`: a file or folder, TRACE=1 for a trace. Of `make chaos`: seconds,
# and the seed of a run to do again. Of `make fuzz`: seconds, and INPUT=… to run one input again,
# SANITIZE=address to find accesses outside of buffers too.
SEEDS   ?= 1000
FIRST   ?= 1
FILE    ?= Simulator/Scenarios/Files
TRACE   ?=
SECONDS ?= 300
SEED    ?=
INPUT   ?=
SANITIZE ?=
# QUICK=1 makes `make bench` a smoke run.
QUICK ?=

sources := Package.swift Sources Tests Benchmarks Simulator Chaos Fuzz
protos  := Sources/NodeRuntime/Peers Sources/NodeRuntime/Flight
# Their tests use real connections with time limits: they run by themselves, as the others keep all cores busy.
timed   := NodeRuntime|Transport

.DEFAULT_GOAL := help
.PHONY: help setup setup-test run test build release lint format bench bench-recovery sim faults scenario chaos chaos-quick query-plans fuzz foreign-check proto docs-check docker-check clean

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
	$(SWIFT) build --product flask-trackPackageTests
	$(SWIFT) build --product bench
	$(SWIFT) test --skip-build --disable-xctest --skip '^($(timed))Tests\.' --skip '^ClusterTests\.'
	$(SWIFT) test --skip-build --disable-xctest --filter '^($(timed))Tests\.'
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

bench-recovery: setup ## failover, restart with a million records, catch-up of an empty node (about eight minutes)
	$(SWIFT) build -c release --product ftnode
	$(SWIFT) build -c release --product chaos
	.build/release/chaos failover --ftnode .build/release/ftnode --folder .build/recovery
	.build/release/chaos restart --ftnode .build/release/ftnode --folder .build/recovery
	.build/release/chaos catch-up --ftnode .build/release/ftnode --folder .build/recovery

sim: setup ## a whole cluster in one process, from SEEDS=1000 seeds on, each with its own faults
	$(SWIFT) build -c release --product simulator
	.build/release/simulator run --seeds '$(SEEDS)' --first '$(FIRST)' $(if $(TRACE),--trace)

faults: setup ## show that the simulator finds every deliberate fault
	$(SWIFT) build -c release --product simulator
	.build/release/simulator faults

scenario: setup ## run FILE=… (a scenario or a folder of them) on the core of consensus; TRACE=1 traces
	$(SWIFT) build -c release --product simulator
	.build/release/simulator scenario '$(FILE)' $(if $(TRACE),--trace)

chaos: setup-test ## real processes killed, paused, cut off and filled for SECONDS=300; SEED=… does a run again
	$(SWIFT) build -c release --product ftnode
	$(SWIFT) build -c release --product chaos
	.build/release/chaos --seconds '$(SECONDS)' $(if $(SEED),--seed '$(SEED)') --ftnode .build/release/ftnode \
	  --folder .build/chaos-run

chaos-quick: setup-test ## a minute of it with the debug build, as continuous integration does
	$(SWIFT) build --product ftnode
	$(SWIFT) build --product chaos
	.build/debug/chaos --seconds 60 $(if $(SEED),--seed '$(SEED)') --ftnode .build/debug/ftnode --folder .build/chaos-run

query-plans: setup-test ## compare every plan for STATEMENTS=20000 random statements with one DuckDB; SEED=… does a run again
	FLASKTRACK_QUERY_STATEMENTS='$(or $(STATEMENTS),20000)' $(if $(SEED),FLASKTRACK_QUERY_SEED='$(SEED)') \
	  $(SWIFT) test --disable-xctest --filter RandomDifferentialTests

fuzz: setup ## give libFuzzer's inputs to the ledger's parsers for SECONDS=300; INPUT=… runs one input again (Fuzz/README.md)
	FLASKTRACK_FUZZ=1 $(SWIFT) build --scratch-path .build/fuzz --product fuzz --sanitize fuzzer $(if $(SANITIZE),--sanitize $(SANITIZE))
	@mkdir -p .build/fuzz-corpus .build/fuzz-found
	.build/fuzz/debug/fuzz -timeout=10 -rss_limit_mb=2048 -max_len=16384 -artifact_prefix=.build/fuzz-found/ \
	  $(if $(INPUT),'$(INPUT)',-max_total_time='$(SECONDS)' .build/fuzz-corpus Fuzz/Corpus Fuzz/PackageCorpus)

foreign-check: setup ## have packages checked by a library that is not ours (needs golang-go, golang-golang-x-mod-dev)
	$(SWIFT) build --product ftnode
	scripts/foreign-check.sh

proto: setup ## make the Swift code of the messages again (needs protoc)
	@command -v protoc >/dev/null || { echo 'proto: protoc is missing: apt-get install protobuf-compiler' >&2; exit 1; }
	$(SWIFT) build -c release --product protoc-gen-swift
	for folder in $(protos); do protoc --plugin=protoc-gen-swift=.build/release/protoc-gen-swift --proto_path=$$folder \
	  --proto_path=/usr/include --swift_out=$$folder/Generated --swift_opt=Visibility=Internal,UseAccessLevelOnImports=true \
	  $$(cd $$folder && echo *.proto) || exit 1; done

docs-check: setup ## check that what the documents name exists
	$(SWIFT) test --disable-xctest --filter ProjectTests.DocumentTests

docker-check: setup ## check Dockerfile and docker-compose.yml; with an engine at hand, also that compose reads them
	$(SWIFT) test --disable-xctest --filter ProjectTests.ContainerTests
	@if docker compose version >/dev/null 2>&1; then docker compose config --quiet; \
	  else echo 'docker-check: no container engine here, so nothing was built'; fi

clean: ## remove what was built (not DuckDB, not the data of a cluster)
	rm -rf .build
