# `make run` and `make test` need Python 3.11, 3.12 or 3.13 and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/demo.toml
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header \
          --no-annotate --no-emit-index-url
# Real processes on a machine that others use: what fails is run again, and told as `rerun`; where
# time itself is judged, twice.
TWICE  := --reruns 1 -rR
THRICE := --reruns 2 -rR
ROOMS  := engine feeds latency models replay runtime strategies
BACKENDS = --extra openvino --extra litert --extra ncnn --extra rtx

.DEFAULT_GOAL := help
.PHONY: help run test torch check fix bench clean lock format-check lint types imports fast slow

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: $(VENV)/.runtime  ## install, then run the demo: gateway, engine and a live view
	$(BIN)/heqis run -c $(CONFIG)

test: $(VENV)/.dev  ## install, then pass every test
	$(BIN)/pytest -n 2 $(TWICE)
	$(BIN)/pytest -n 2 -m "slow and not alone" $(TWICE)
	$(BIN)/pytest -m alone $(THRICE)

fast: $(VENV)/.dev  ## the fast tests only
	$(BIN)/pytest -n 2

check: format-check lint types imports fast  ## everything but the slow tests

format-check: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

fix: $(VENV)/.dev  ## format, and mend what a tool can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)-bench/.done $(VENV)-bench-serving/.done  ## measure against the peers, and write docs/benchmarks.md
	$(VENV)-bench/bin/python tests/bench/run.py --write docs/benchmarks.md

torch: $(VENV)/.torch  ## install PyTorch, for training and for the tests of it

$(VENV)/.torch: $(VENV)/.dev
	$(BIN)/pip install -q --disable-pip-version-check "torch==2.13.0" onnxscript
	@touch $@

clean:  ## remove what was made, the virtual environment too
	rm -rf $(VENV) $(VENV)-bench $(VENV)-bench-serving var build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache *.egg-info
	find $(ROOMS) tests -name __pycache__ -prune -exec rm -rf {} +

lock: $(VENV)/.dev  ## resolve the loose bounds anew into the locks
	$(BIN)/pip install -q uv
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) pyproject.toml --extra dev --extra lab --extra ray $(BACKENDS) -c requirements.lock -o requirements-dev.lock
	$(COMPILE) pyproject.toml --extra bench --extra lab -o requirements-bench.lock
	$(COMPILE) pyproject.toml --extra bench-serving -o requirements-bench-serving.lock

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"HEQIS needs Python 3.11 to 3.13, and $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.lock
	@touch $@

# The peers need older versions of what we use, so they have an environment of their own.
$(VENV)-bench/.done: requirements-bench.lock pyproject.toml | $(VENV)/bin/pip
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install -q --disable-pip-version-check -r requirements-bench.lock
	$(VENV)-bench/bin/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)-bench-serving/.done: requirements-bench-serving.lock pyproject.toml | $(VENV)/bin/pip
	$(PYTHON) -m venv $(VENV)-bench-serving
	$(VENV)-bench-serving/bin/pip install -q --disable-pip-version-check -r requirements-bench-serving.lock
	$(VENV)-bench-serving/bin/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@
