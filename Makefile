# Everything here sets up what it needs by itself: `make run`, `make test`.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test check format setup setup-dev lock system bench bench-serving clean help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: setup ## set up, then run the pipeline on the flights of 2013
	@mlops run

test: setup-dev ## set up, then run every test that this machine can run
	pytest tests/ -n auto --dist loadgroup

check: setup-dev ## lint, types, layers, dependencies, dead code
	ruff format --check .
	ruff check .
	mypy
	lint-imports --cache-dir .import_linter_cache
	deptry src
	vulture
	mlops render --check

format: setup-dev ## put the code in its format
	ruff format .
	ruff check --fix .

setup: .venv/.base ## make .venv from requirements.txt
setup-dev: .venv/.dev ## the same, with what tests and checks need

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13: name one, e.g. make run PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.base: requirements.txt pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.base
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements-dev.txt
	@touch $@

lock: | .venv/bin/uv ## resolve the newest versions within the bounds of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		--extra monitoring --extra test pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		--extra monitoring --extra test --extra servers --extra lint -c requirements.txt pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		--group serving -c requirements.txt -o requirements-serving.txt

system: ## install the system programs that some tests need (Debian, root)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium openssl wrk

bench: setup-dev ## measure what the README states, beside a peer or a floor
	python benchmarks/pipeline.py
	python benchmarks/predict.py

bench-serving: setup-dev ## measure the model server beside its peers (their environments are made at first use), then its faults
	python -m benchmarks.serving
	python -m benchmarks.serving.faults

clean: ## remove the environment and caches, keep data and models
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
