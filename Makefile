# `make demo` and `make test` create .venv themselves; they need only Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint lock clean

demo: $(VENV)/installed
	$(BIN)/swclip demo --out swclip-demo

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

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
	rm -rf $(VENV) swclip-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
