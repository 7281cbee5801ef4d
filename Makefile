# `make demo` and `make test` do all of their own set-up, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENVIRONMENT := OMP_WAIT_POLICY=PASSIVE VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow

.PHONY: demo test check clean

demo: $(VENV)/ready
	$(ENVIRONMENT) $(BIN)/medsegreg demo --output demo

test: check
	$(ENVIRONMENT) $(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch comes first and is pinned: what depends on it then keeps it.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -c "from PySide6 import QtWidgets" 2>/dev/null || sh tools/install_qt_libraries.sh
	touch $@

clean:
	rm -rf $(VENV) demo
