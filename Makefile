.PHONY: demo test check format clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

demo: $(VENV)/installed
	$(BIN)/blemish demo runs/demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto -m "not slow"

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch comes first and alone: another package's wider range would otherwise bring its newest build.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .oldest runs build dist
