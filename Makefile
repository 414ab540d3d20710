# One word per action; CI says the same words. `make` alone lists them.
#
# demo, test, soak, soak-at-once, check, bench and ui need only python3 (3.10 to 3.14, with venv) and make: they
# set up .venv themselves, once, and again when pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
ARGS ?=
N ?= 50
UPGRADE ?=

BIN := .venv/bin
READY := .venv/.ready
MATRIX_READY := .venv-matrix/.ready
EXTRAS := delta,duckdb,filesystem,postgres,sql-database
PIP := -m pip --disable-pip-version-check
PINNED := --constraint constraints.txt --build-constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo ui test soak soak-at-once check test-matrix bench constraints clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Load New York's flights of 2013 into DuckDB through Dagster, and build dbt's marts
	@$(BIN)/python examples/flights/demo.py

ui: $(READY) ## Serve the flights example in Dagster's UI, until interrupted
	cd examples/flights && PATH="$(CURDIR)/$(BIN):$$PATH" \
		DAGSTER_HOME="$${FLIGHTS_HOME:-$$PWD/data}/dagster" dg dev $(ARGS)

test: $(READY) ## Run the tests; ARGS="-k name" goes to pytest
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

soak: $(READY) ## Kill N loads for each destination, with and without its disk, and look for damage
	@$(BIN)/python tests/kills/soak.py --rounds $(N) $(ARGS)

soak-at-once: $(READY) ## Load with 8 runs at once, N times for each promise, and compare with one by one
	@$(BIN)/python tests/at_once/soak.py --rounds $(N) $(ARGS)

check: $(READY) ## Lint, format, types and direction of imports; the tests have the code blocks of the docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-matrix: $(MATRIX_READY) ## Run the tests on the oldest and newest dagster, dlt and Python found here
	.venv-matrix/bin/nox $(ARGS)

bench: $(READY) ## Run the scripts in bench/
	@set -e; for script in bench/[!_]*.py; do $(BIN)/python "$$script" $(ARGS); done

constraints: $(MATRIX_READY) ## Pin what is new in pyproject.toml; UPGRADE=--upgrade moves every pin
	.venv-matrix/bin/uv pip compile pyproject.toml --universal --python-version 3.10 \
		--all-extras --group dev --group matrix --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --quiet $(UPGRADE) --output-file constraints.txt

clean: ## Remove the environments, caches and build results
	rm -rf .venv .venv-matrix .nox .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv, which takes a minute or two, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python $(PIP) install --quiet $(PINNED) --editable '.[$(EXTRAS)]' --group dev
	@touch $@

$(MATRIX_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-matrix
	.venv-matrix/bin/python $(PIP) install --quiet --upgrade --constraint constraints.txt pip
	.venv-matrix/bin/python $(PIP) install --quiet $(PINNED) --group matrix
	@touch $@
