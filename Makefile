# The two commands a newcomer needs: `make run` and `make test`. Meson does the building; this file only drives it.
#
#   make run      install what is needed, build, start the server on ./data
#   make test     install what is needed, build everything in every flavour, run every test (20-25 minutes on 2 cores)
#   make build    build only: no network, no sudo
#   make check    quick tests (seconds to a minute), offline
#   make check-offline   everything that needs no package registry
#   make bench    the benchmarks of docs/performance.md
#   make install  DESTDIR= PREFIX=/usr/local
#   make lint     include direction, banned calls, formatting, clang-tidy
#
#   make tidy     clang-tidy with its analyzer (some minutes)
#
# Variables: FLAVOUR (release, debug, asan, tsan, fuzz, coverage; `python3 scripts/flavours.py` lists them), BUILD (build directory), CC, ARGS (passed to the server by `make run`).

FLAVOUR ?= release
BUILD  ?= $(if $(filter release,$(FLAVOUR)),build,build-$(FLAVOUR))
PREFIX ?= /usr/local
ARGS   ?=

.PHONY: run test build check check-offline bench install lint tidy setup setup-test clean
.DEFAULT_GOAL := build

setup:
	@sh scripts/setup.sh build

setup-test:
	@sh scripts/setup.sh test

$(BUILD)/build.ninja:
	python3 scripts/flavours.py $(FLAVOUR) $(BUILD) $(PREFIX)

build: $(BUILD)/build.ninja
	ninja -C $(BUILD)

run: setup
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	ninja -C $(BUILD) cmd/immudb
	@sh scripts/run.sh $(BUILD) $(ARGS)

check: build
	@python3 scripts/run-tests.py --build $(BUILD) quick

check-offline: build
	@python3 scripts/run-tests.py --build $(BUILD) offline

test: setup-test
	@python3 scripts/run-tests.py --build $(BUILD) all

lint:
	@python3 scripts/run-tests.py --build $(BUILD) lint

tidy: $(BUILD)/build.ninja
	ninja -C $(BUILD) clang-tidy

bench: build
	@sh bench/run.sh $(BUILD)

install: build
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-*
