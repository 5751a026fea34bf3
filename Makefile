# One entry for everything: make demo, make test, make lint, make docs.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
PIP    := $(BIN)/pip --disable-pip-version-check -q

.PHONY: demo test lint docs evidence format clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	touch $@

$(DEV): $(READY)
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)  ## SGD, SAM and ImbSAM on long-tailed digits: a table and an HTML report
	$(BIN)/imbsam compare digits --out demo

test: $(DEV)  ## the whole test suite, in parallel
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(DEV)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)  ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

evidence: $(DEV)  ## tables and figures of the studies, out of their runs
	$(BIN)/python benchmarks/anomaly/collect.py
	$(BIN)/python benchmarks/images/collect.py
	$(BIN)/python benchmarks/tables/collect.py
	$(BIN)/python benchmarks/speed/table.py --write
	$(BIN)/python benchmarks/evidence.py

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build demo
