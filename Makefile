# `make demo` and `make test` create .venv themselves; they need only Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow pytest lint bench-small docs lock clean

demo: $(VENV)/installed
	$(BIN)/swclip demo --out swclip-demo

# Linters, types, import layers and all tests but the slow ones, which CI runs too. Two processors are busy throughout:
# mypy, which has one process, runs beside the tests.
test: $(VENV)/installed-dev
	$(MAKE) --no-print-directory -j 2 lint pytest

# With bytecode: without it, each of the many processes of the tests would compile the sources again.
pytest test-slow: export PYTHONDONTWRITEBYTECODE :=
pytest: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Whole commands, several or killed processes, exports, the pages' commands, and every benchmark at toy size.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check src tests benchmarks docs/*.py
	$(BIN)/ruff format --check src tests benchmarks docs/*.py
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every benchmark at toy size: that it runs, and has its line in benchmarks/README.md. A part of `make test-slow`.
bench-small: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/benchmarks/test_small.py

# The documentation site, in docs/_build/html: plain files, ready for GitHub Pages. Needs no network.
docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Lock the newest versions that pyproject.toml and constraints.txt allow; run `make test` afterwards.
lock: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable '.[dev]'
	(echo "# Versions for development, written by: make lock"; \
	 $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > requirements-dev.lock

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --constraint requirements-dev.lock --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) swclip-demo docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
