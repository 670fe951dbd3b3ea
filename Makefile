# `make train` and `make test` need Python >= 3.11 and make, nothing else: each makes .venv if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: train test test-slow gpu lint format docs notebooks clean

train: $(VENV)/.train
	$(BIN)/python -m experiments.digits --method=saf_f

test: $(VENV)/.ready lint
	@echo "the fast tests: about 20 minutes on two cores"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --ignore=tests/experiments
	$(BIN)/python -m pytest -m slow tests/experiments

# Proofs, times and memory on an accelerator, in 20 minutes at most; FLAGS=--on=cpu is a small trial without one.
gpu: $(VENV)/.ready
	@if [ -e /dev/nvidiactl ] || [ -e /dev/dxg ]; then $(BIN)/python -m pip install --quiet --editable ".[gpu]"; fi
	$(BIN)/python -m experiments.device $(FLAGS)

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

notebooks: $(VENV)/.notebooks
	$(BIN)/jupyter lab notebooks

$(VENV)/.notebooks: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[notebooks]"
	touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/.ready: $(VENV)/.train
	@echo "installing what the tests need besides ..."
	$(BIN)/python -m pip install --editable ".[experiments,events,dev]"
	touch $@

$(VENV)/.train: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'safjax needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)
	@echo "installing JAX and what the experiments need into $(VENV), more than 1 GB: some minutes ..."
	$(BIN)/python -m pip install --editable ".[experiments]"
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build docs/notebooks docs/jupyter_execute *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
