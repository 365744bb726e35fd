# The habits of the house. Each target works in a fresh checkout; VENV may name another environment.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
# The hundreds of processes that tests and benchmarks start need not compile what the one before compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup quickstart check style types house test proof chaos bench notebooks widgets docs dev clean help
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

setup: | $(BIN)/python  ## an environment with everything, and the pre-commit hooks
	$(BIN)/pip install -e '.[dev,notebook]'
	@if [ -d .git ]; then $(BIN)/pre-commit install; fi

quickstart: | $(BIN)/python  ## run the main job of notebooks/01-quickstart.ipynb and print what happened
	$(BIN)/pip install -q -e '.[examples]' && $(BIN)/nbflow quickstart

# A mark for what is installed: an installation that was broken off, or is older than pyproject.toml, is made again.
$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[test]' && touch $@

# Not compiled: most of it is never imported by what checks, and one waits for this.
$(VENV)/.check: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q --no-compile -e '.[check]' && touch $@

check: $(VENV)/.check  ## style, types, floors and sizes, in less than 30 s
	@$(MAKE) --no-print-directory -j2 types style house

style: $(VENV)/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.check
	$(BIN)/python -m pyright --pythonpath $(BIN)/python

house: $(VENV)/.check
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

test: | $(BIN)/python  ## install what tests need and run them all
	$(BIN)/pip install -e '.[test]' && $(BIN)/python -m pytest -n auto --dist loadfile

proof: $(VENV)/.test  ## the long form: a hundred times the examples of each law, a death at each write; hours (docs/reliability.md)
	$(BIN)/python -m tests.fault.matrix --write
	$(BIN)/python -m pytest -n auto --dist load --hypothesis-profile=proof tests/property

chaos: $(VENV)/.test  ## 1,000 runs while workers, supervisors, connections and the server are killed, for 5 minutes
	$(BIN)/python -m tests.fault.chaos

bench: $(VENV)/.test  ## the measurements behind the claims
	$(BIN)/python -m benchmarks

notebooks: $(VENV)/.test  ## run each notebook and compare its outputs
	$(BIN)/python -m pytest --nbval-lax notebooks

widgets:  ## build the front end into nbflow/notebook/static and check its types (needs Node)
	@if [ -f widgets/package.json ]; then cd widgets && npm ci && npm run check && npm run build; \
	else echo "this version has no front end to build"; fi

docs: $(VENV)/.test  ## check that the examples in the docs run and that their links hold
	$(BIN)/python -m pytest -q tests/docs

dev: setup  ## set up, then JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

clean:  ## remove what can be made again; .venv and .nbflow stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
