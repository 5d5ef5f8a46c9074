# Every target makes .venv when it is missing; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all lint format bench clean

demo: .venv/core
	$(BIN)/python launch.py -m beta=0,0.01,1 latent=2,10,128

test: .venv/dev
	$(BIN)/python -m pytest

test-all: .venv/dev
	$(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev
	$(BIN)/python -m benchmarks.training

clean:
	rm -rf .venv

.venv/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable ".[test,dev,bench]"
	# For tests of Inception only, apart and without torchvision, which would bring a torch of its own.
	$(PIP) --no-deps --upgrade --target .venv/inception torch-fidelity tqdm
	touch .venv/core $@
