# mos: `make demo` and `make test` are the only two commands a fresh machine needs.
#
#   PYTHON=/path/to/python3.12   use this interpreter (default: the newest suitable one found)
#   MOS_LTO=0                    build without link-time optimisation (faster while editing C)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
BUILD := build
# One stamp per requested interpreter, so that another PYTHON makes another environment.
READY := $(VENV)/.ready$(if $(PYTHON),-$(subst /,_,$(PYTHON)))
LINTERS := $(VENV)/.lint

CORE := $(shell find csrc -name '*.[ch]')
BUILD_FILES := build_ffi.py setup.py pyproject.toml tools/incremental_cc.py
DEV_ENV := MOS_WERROR=1 MOS_BUILD_CACHE=$(BUILD)/obj
# Several people or shells may build in one tree.
LOCKED := mkdir -p $(BUILD); flock $(BUILD)/.lock

.PHONY: help demo test test-c test-asan asan build lint format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(BUILD)/.built ## run the first example on the capture that comes with it
	@$(BIN)/python examples/rexmit_monitor.py tests/data/demo.pcap

test: $(BUILD)/.built ## C unit programs and all Python tests
	@$(BIN)/pytest

test-c: $(READY) ## the C unit programs alone
	@$(BIN)/pytest tests/test_c_units.py

build: $(BUILD)/.built ## the extension module, in place

lint: $(BUILD)/.built $(LINTERS) ## every style and type check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	find csrc tests -name '*.[ch]' -print0 | xargs -0 --no-run-if-empty clang-format --dry-run -Werror
	$(BIN)/python tools/check_sizes.py

format: $(LINTERS) ## rewrite files in the project's style
	$(BIN)/ruff format
	find csrc tests -name '*.[ch]' -print0 | xargs -0 --no-run-if-empty clang-format -i

clean: ## remove everything that was made here
	rm -rf $(BUILD) dist $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis mos/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- environment -----------------------------------------------------------------------------

$(READY): tools/bootstrap.sh pyproject.toml setup.py
	@$(LOCKED) env $(DEV_ENV) PYTHON='$(PYTHON)' tools/bootstrap.sh $(VENV)
	@touch $(VENV)/.ready $@

$(LINTERS): $(READY) tools/bootstrap.sh pyproject.toml
	@$(LOCKED) env $(DEV_ENV) tools/bootstrap.sh $(VENV) lint
	@touch $@

# ---- extension -------------------------------------------------------------------------------

# The stamp gets the time of the start: a file saved during the build is newer.
$(BUILD)/.built: $(READY) $(CORE) $(BUILD_FILES)
	@mkdir -p $(BUILD); touch $@.started
	@$(LOCKED) env $(DEV_ENV) $(BIN)/python setup.py -q build_ext --inplace --force
	@mv $@.started $@

# A second copy of the package with sanitizers in build/asan; the first stays as it is.
ASAN_ENV := MOS_WERROR=1 MOS_BUILD_CACHE=$(BUILD)/asan/obj MOS_SANITIZE=address,undefined

$(BUILD)/asan/.built: $(READY) $(CORE) $(BUILD_FILES) $(shell find mos -name '*.py*')
	@mkdir -p $(@D); touch $@.started
	@$(LOCKED) env $(ASAN_ENV) $(BIN)/python setup.py -q build --force \
		--build-base $(BUILD)/asan --build-lib $(BUILD)/asan/lib --build-temp $(BUILD)/asan/temp
	@mv $@.started $@

asan: $(BUILD)/asan/.built ## the extension with AddressSanitizer and UBSan, in build/asan/lib

test-asan: $(BUILD)/.built $(BUILD)/asan/.built ## the tests on that extension
	@env LD_PRELOAD="$$(gcc -print-file-name=libasan.so):$$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 MOS_TEST_SANITIZED=1 \
		PYTHONPATH="$(CURDIR)/$(BUILD)/asan/lib" PYTHONSAFEPATH=1 PYTHONMALLOC=malloc \
		$(BIN)/pytest -m 'not slow'
