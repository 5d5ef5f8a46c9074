# Targets create .venv if it is missing. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
UNCONSTRAINED := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PIP := $(UNCONSTRAINED) --constraint constraints.txt

# With compiled modules each of the tests' many processes starts a tenth of a second earlier.
export PYTHONDONTWRITEBYTECODE :=

# Test files run in parallel: one worker per core, or two for slow tests, which often wait for SLURM.
PYTEST := $(BIN)/python -m pytest --maxprocesses 8 --dist loadfile --numprocesses
TWICE_THE_CORES = $(shell $(PYTHON) -c "import os; print(2 * (os.cpu_count() or 1))")

.PHONY: demo test test-slow test-all test-gpu lint format docs bench bench-quick bench-gpu clean

demo: .venv/core
	$(BIN)/python launch.py -m beta=0,0.01,1 latent=2,10,128

test: .venv/dev
	$(PYTEST) auto

test-slow: .venv/dev
	$(PYTEST) $(TWICE_THE_CORES) -m slow

test-all: .venv/dev
	$(PYTEST) $(TWICE_THE_CORES) -m "slow or not slow"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/nbstripout --verify analysis/*.ipynb

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout analysis/*.ipynb

docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# MNIST is the folder of its four files, which are downloaded if they are missing.
MNIST ?= data/mnist

bench: .venv/dev
	$(BIN)/python -m benchmarks --root $(MNIST)
	$(BIN)/python docs/make_performance_tables

bench-quick: .venv/dev
	$(BIN)/python -m benchmarks.quick

# These need an NVIDIA GPU, and a Python with PyTorch for CUDA and the extra `test`: GPU_PYTHON. The benchmark takes less
# than eight minutes, and compares with JAX if that Python has it with CUDA, and optax.
GPU_PYTHON ?= $(PYTHON)

test-gpu:
	$(GPU_PYTHON) -m pytest tests/gpu -m gpu

bench-gpu:
	$(GPU_PYTHON) -m benchmarks.gpu

clean:
	rm -rf .venv

.venv/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable ".[test,dev,notebooks,docs]"
	# For the tests of Inception. Installed separately, without torchvision, which would install another torch.
	$(PIP) --no-deps --upgrade --target .venv/inception torch-fidelity tqdm
	# For the tests of Hydra's own Optuna sweeper, whose release needs an Optuna of its own.
	$(UNCONSTRAINED) --no-deps --upgrade --target .venv/optuna-sweeper hydra-optuna-sweeper==1.3.0 optuna==2.10.1
	touch .venv/core $@
