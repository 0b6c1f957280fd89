# Everything here sets up what it needs. PYTHON is the interpreter of the environment that is made (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/videobrain-environments
VLLM_ENVIRONMENT ?= $(CACHE)/verl-0.9.1
PYTEST_ARGUMENTS ?=

.PHONY: help demo test lint types unit docs environments clean

help:
	@echo "make demo          six questions about a made video, and what a small model looks at to answer them; offline"
	@echo "make test          what continuous integration runs: lint, types, docs, all tests but the slow ones"
	@echo "make unit          the tests that need no model server"
	@echo "make environments  the environment of the model server that the tests start"

$(VENV)/.base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[local]"
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --group dev
	# without what its own tasks and models need; what its interfaces import is in the group
	$(BIN)/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@

demo: $(VENV)/.base
	$(BIN)/videobrain demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

environments:
	bash tests/environments/build.sh $(VLLM_ENVIRONMENT)

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not server and not slow" $(PYTEST_ARGUMENTS)

test: lint types docs environments
	VIDEOBRAIN_TEST_VLLM=$(VLLM_ENVIRONMENT) $(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGUMENTS)

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
