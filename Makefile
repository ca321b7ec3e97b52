# Everything here sets up what it needs by itself: `make run`, `make test`.
PYTHON ?= python3
TESTS ?= tests/
# Test processes: a number, or auto for one more than there are cores (tests/scheduling.py).
TEST_WORKERS ?= auto
# Which lines tests reach is counted by `pytest` itself, or here with COVERAGE=--cov: that doubles the processor time of the code it watches.
COVERAGE ?= --no-cov
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILD = docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) --build-arg VERSION=$(VERSION) \
	--build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown)
UV_VERSION := 0.13.9
# Half a minute once, that every start afterwards is spared; empty for an environment that is used once.
BYTECODE ?= --compile-bytecode
# An environment that lends a new one what it has compiled, for one that is used once. Python takes that of a file of the same time and size,
# and uv links the same file of its cache into both. What lies on another disk is not lent; what is just being written may be gone.
BYTECODE_OF ?=
LEND = cd '$(BYTECODE_OF)' && find lib -path '*/__pycache__/*.pyc' -print0 | xargs -0 -r cp -al --parents -t '$(CURDIR)/.venv' 2>/dev/null || true
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where it is set, every process compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check format setup setup-dev torch text lock relock system images compose manifests act jenkins orchestrators acceptance notebooks bench bench-images bench-serving clean help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: setup ## set up, then run the pipeline on the flights of 2013
	@mlops run

test: setup-dev ## set up, then run every test that this machine can run
	python -m pytest -p tests.second_try $(TESTS) -n $(TEST_WORKERS) --dist loadgroup --durations=20 $(COVERAGE)

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
	$(if $(BYTECODE_OF),@$(LEND))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.base: requirements.txt pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet $(BYTECODE) --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.base
	$(BIN)/uv pip install --quiet $(BYTECODE) --python $(BIN)/python -r requirements-dev.txt
	@touch $@

torch: setup ## add PyTorch for the networks (docs/networks.md); pip's own settings say where it comes from, a CPU or a CUDA build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^torch = \["\(.*\)"\].*/\1/p' pyproject.toml)"

text: setup ## add what reads text by pretrained encoders (docs/text.md)
	$(BIN)/uv pip install --quiet $(BYTECODE) --python $(BIN)/python $$(sed -n 's/^text = \[\(.*\)\].*/\1/p' pyproject.toml | tr -d '",')

LOCK = $(BIN)/python cicd/lock.py

lock: UPGRADE = --upgrade
lock: relock ## resolve the newest versions within the bounds of pyproject.toml
relock: | .venv/bin/uv ## resolve again after a change of pyproject.toml, moving no version that need not move
	$(LOCK) requirements.txt --extra test --extra deploy pyproject.toml $(UPGRADE)
	$(LOCK) requirements-dev.txt --extra test --extra deploy --extra servers --extra lint --extra notebooks -c requirements.txt pyproject.toml $(UPGRADE)
	$(LOCK) requirements-serving.txt --group serving -c requirements.txt $(UPGRADE)
	$(LOCK) requirements-training.txt --extra s3 -c requirements.txt pyproject.toml $(UPGRADE)
	$(LOCK) docker/requirements-build.txt --group image -c requirements-dev.txt $(UPGRADE)

images: ## build the training and the serving image (BASE_IMAGE names another base)
	$(BUILD) -f docker/Dockerfile.serve -t mlops-pipeline-serve:$(VERSION) .
	$(BUILD) -f docker/Dockerfile -t mlops-pipeline:$(VERSION) .

system: ## install the system programs that some tests need (Debian, root)
	apt-get update -qq
	@# Tests start programs of their own; as services, these would listen on every address. Where one is installed already, it is left alone.
	! command -v systemctl >/dev/null || for name in prometheus prometheus-alertmanager; do \
		command -v $$name >/dev/null || systemctl --root=/ mask $$name.service; \
	done
	apt-get install -y -qq --no-install-recommends openssl strace wrk $$(command -v chromium >/dev/null || echo chromium) \
		$$(command -v promtool >/dev/null || echo prometheus) \
		$$(command -v prometheus-alertmanager >/dev/null || echo prometheus-alertmanager) \
		$$(command -v npx >/dev/null || echo npm) $$(command -v java >/dev/null || echo default-jre-headless)

bench: setup-dev ## measure what the README states, beside a peer or a floor
	python benchmarks/pipeline.py
	python benchmarks/predict.py
	python benchmarks/monitoring.py
	python benchmarks/drift.py
	python -m benchmarks.beside_a_window

compose: setup-dev ## bring up the whole platform in containers and train once (docker/README.md)
	VERSION=$(VERSION) docker/compose

manifests: setup-dev ## write k8s/model-deployment.yaml from k8s/overlays/local
	k8s/render

act: setup-dev ## run the training job of GitHub Actions on this machine, in a fresh clone of HEAD
	cicd/act/run

jenkins: setup-dev ## lint the Jenkinsfile and run its shell lines in a fresh clone of HEAD
	pytest --no-cov tests/integration_tests/test_jenkins.py

orchestrators: setup-dev ## run the rendered Argo, Airflow and Kubeflow pipelines with the real programs
	pytest --no-cov tests/integration_tests/test_orchestrators.py

notebooks: setup-dev ## run the notebooks (or NOTEBOOKS) from top to bottom and store what they show
	python notebooks/execute.py $(NOTEBOOKS)

acceptance: SUITE ?= tests/
acceptance: ## type every row of the contract in a fresh clone of HEAD, as a user would (SUITE: what pytest gets; NOTEBOOKS)
	$(PYTHON) -m acceptance --suite='$(SUITE)' --notebooks='$(NOTEBOOKS)'

bench-images: ## sizes, build times and start of the images
	$(PYTHON) benchmarks/images.py

bench-serving: setup-dev ## measure the model server beside its peers (their environments are made at first use), then its faults
	python -m benchmarks.serving
	python -m benchmarks.serving.flights
	python -m benchmarks.serving.faults

clean: ## remove the environment and caches, keep data and models
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
