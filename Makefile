# Two commands for a fresh clone: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= demo_output

.PHONY: help setup demo test test-jax lint format clean

help:
	@echo "make demo    set up, then make a first map within a minute, and every step in five"
	@echo "make test    set up, then lint, check types and run all tests"
	@echo "make test-jax  run the tests of models, losses, metrics and training under JAX"
	@echo "make lint    ruff, mypy and the import contracts"
	@echo "make format  rewrite the code with ruff"
	@echo "make clean   remove what was built, the environment included"

setup: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(0 if ok else "keras-lstsr needs Python 3.11 to 3.13; found %s. Name another: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all,dev]'
	@touch $@

demo: setup
	$(BIN)/keras-lstsr demo --output $(DEMO_OUTPUT)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A file's tests share models and servers, so a process gets whole files.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Compiling takes most of the time under JAX, and here each program runs once or twice.
test-jax: setup
	KERAS_BACKEND=jax XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" \
	$(BIN)/python -m pytest tests/models tests/losses tests/metrics tests/training/test_fit.py -m "not slow"

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
