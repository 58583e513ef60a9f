# The two commands of this project: `make demo` and `make test`. Both do all set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
# One thread per BLAS call: the suite runs two processes at once.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test search lint browser bench clean

demo: .venv/all
	$(BIN)/backstory demo

test: lint browser
	$(BIN)/python -m pytest -n 2 -q

# Random draws, many and others every time; `make search SEED=3` repeats one search. Never part of `make test`.
search: .venv/test
	$(BIN)/python -m pytest -n 2 -q -m hypothesis --hypothesis-profile=search $(SEED:%=--hypothesis-seed=%) tests

lint: .venv/test
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/pyright
	$(BIN)/lint-imports

# Tests of the report's page in a real browser are skipped by name where there is none; CI installs it.
browser:
	@if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; \
	then apt-get -q update && apt-get -q install --yes chromium; fi

# About 40 minutes, and writes the tables of docs/benchmarks.md; `make bench QUICK=1` takes 5 to 10 and only prints.
bench: .venv/bench
	$(BIN)/python benchmarks/everything.py $(if $(QUICK),--quick)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "backstory needs Python 3.11 or later; make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/all: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

# torch first and alone: it is the oracle of the tests, and left to a resolver it may bring a GPU build. It is
# named again, so that nothing of the extra (Lightning needs torch) can bring another.
.venv/test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[test]' torch==2.13.0
	touch $@

# PyTensor without what it depends on: it asks for an older Numba than backstory does, and runs on this one.
.venv/bench: pyproject.toml | .venv/test
	$(BIN)/python -m pip install --quiet --editable '.[bench]' torch==2.13.0
	$(BIN)/python -m pip install --quiet --no-deps 'pytensor>=3.0.7'
	touch $@

clean:
	rm -rf .venv backstory-demo
