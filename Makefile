# Face Alignment Lab. `make help` lists the targets from the comments after their names.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
RUN_TESTS := OMP_NUM_THREADS=1 WANDB_MODE=offline $(BIN)/python -m pytest -ra -n $(WORKERS)

MEASURED := OMP_NUM_THREADS=1 WANDB_MODE=offline COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/coverage run -m pytest -q

# Two threads that wait for each other by spinning take several times as long once anything else wants their core.
export OMP_WAIT_POLICY ?= PASSIVE
# Machine code of compiled loops, which takes a minute to make: one folder for all processes.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba

.DEFAULT_GOAL := help
.PHONY: help setup lint format types test test-slow test-docs coverage audit build benchmark demo clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv and install the project in it (again only when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

lint: setup  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## put style and format right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## check types
	$(BIN)/mypy

test: setup  ## run the tests that take seconds
	$(RUN_TESTS) -m 'not slow'

test-slow: setup  ## run the tests that take minutes
	$(RUN_TESTS) -m slow

test-docs: setup  ## check the commands, links and examples of docs/, and the workflows
	$(RUN_TESTS) tests/test_docs.py tests/test_examples.py tests/test_workflows.py

coverage: setup  ## tests that take seconds, with the share of lines that they run; fails below the limits
	$(BIN)/coverage erase
	$(MEASURED) -n $(WORKERS) -m 'not slow'
	NUMBA_DISABLE_JIT=1 $(MEASURED) tests/awing/test_native.py tests/musica/native -k 'degenerate or inference or nan or levels'  # no tracer sees machine code
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='common/*' --fail-under=95 --skip-covered --sort=miss
	for paper in awing dpr musica sdu3d spiga; do $(BIN)/coverage report --include="$$paper/*" --fail-under=90 || exit; done
	$(BIN)/coverage report --include='benchmarks/*' --fail-under=88

audit: setup  ## ask the package index for known vulnerabilities of the versions in constraints.txt
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.7'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

build: setup  ## build wheel and source archive in dist/ and look inside
	rm -rf dist build
	$(BIN)/python -c "from setuptools import build_meta as b; print(b.build_sdist('dist'), b.build_wheel('dist'))"
	$(BIN)/python -m pytest -q tests/test_package.py

benchmark: setup  ## train and compare all methods on synthetic faces; runs/benchmark/report.html shows the result
	$(BIN)/python -m benchmarks run --config benchmarks/smoke.yaml --workers $(WORKERS)
	$(BIN)/python -m benchmarks robustness --config benchmarks/smoke.yaml --faces 16
	$(BIN)/python -m benchmarks report --folder runs/benchmark

demo: setup  ## train the smoke recipe of AWing; pictures of its predictions are in runs/awing/synthetic/smoke/pictures
	$(BIN)/python -m awing.cli fit --config awing/smoke.yaml

clean:  ## remove caches and build products (keeps .venv, runs and data)
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
