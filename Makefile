# Every target makes .venv when it is missing; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Files side by side, a worker a core: many tests wait for processes of their own.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow test-all lint format bench clean

demo: .venv/core
	$(BIN)/python launch.py -m beta=0,0.01,1 latent=2,10,128

test: .venv/dev
	$(PYTEST)

test-slow: .venv/dev
	$(PYTEST) -m slow

test-all: .venv/dev
	$(PYTEST) -m "slow or not slow"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/nbstripout --verify analysis/*.ipynb

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout analysis/*.ipynb

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
	$(PIP) --editable ".[test,dev,bench,notebooks]"
	# For tests of Inception only, apart and without torchvision, which would bring a torch of its own.
	$(PIP) --no-deps --upgrade --target .venv/inception torch-fidelity tqdm
	touch .venv/core $@
