# One entry for everything; `make` alone lists it.
PYTHON      ?= python3
VENV        ?= .venv
CONSTRAINTS ?= constraints.txt
BIN         := $(VENV)/bin
PYTEST      := python -m pytest -n auto --dist worksteal
QUICK       := -m "not slow"

# The simulated device has a thread for its backwards, beside which no process can be forked that makes any: its tests run apart.
APART       := tests/device

# What of the tests needs an extra, or tools of development: left out beside the required dependencies alone.
NEEDS_EXTRAS := $(addprefix --ignore=tests/, integrations device/test_integrations.py runs/tracking runs/test_export.py studies/test_journal.py \
	studies/test_workers.py studies/test_tune.py cli/test_tune.py optim/test_peers.py reliability \
	report/test_browser.py notebook/test_kernel.py test_docstrings.py test_citation.py test_evidence.py test_site.py test_tour.py test_tutorials.py)

# What of the tests runs on the device that IMBSAM_TEST_DEVICE names; cpu where it is not set.
DEVICE    ?= cuda
ON_DEVICE := tests/gpu $(addprefix tests/optim/test_, contract.py promises.py precision.py accumulate.py compiled.py)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all test-required test-oldest test-wheel gpu lint format hooks docs evidence tour wheel clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 16

# A virtual environment with the package and some of its extras; installed-plain is the package alone.
$(VENV)/installed-%: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip --disable-pip-version-check -q install -c $(CONSTRAINTS) -e '.$(if $(filter-out plain,$*),[$*])'
	touch $@

.PRECIOUS: $(VENV)/installed-%

demo: $(VENV)/installed-plain  ## SGD, SAM and ImbSAM on long-tailed digits: a table and an HTML report
	$(BIN)/imbsam compare digits --out demo

test test-all test-required test-wheel: export OMP_NUM_THREADS = 1

test: $(VENV)/installed-dev  ## the tests that are not slow, in parallel
	$(BIN)/$(PYTEST) $(QUICK) $(APART)
	$(BIN)/$(PYTEST) $(QUICK) --ignore=$(APART)
	@echo "The slow tests were left out: make test-all runs everything."

test-all: $(VENV)/installed-dev  ## every test, in parallel
	$(BIN)/$(PYTEST) $(APART)
	$(BIN)/$(PYTEST) --ignore=$(APART)

test-required: $(VENV)/installed-test  ## the tests that are not slow and need none of the extras
	$(BIN)/$(PYTEST) $(QUICK) $(NEEDS_EXTRAS) $(APART)
	$(BIN)/$(PYTEST) $(QUICK) $(NEEDS_EXTRAS) --ignore=$(APART)

test-oldest:  ## the same beside the oldest versions that pyproject.toml allows
	$(MAKE) test-required VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-wheel: wheel  ## the same of the built wheel, where no source lies
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip --disable-pip-version-check -q install -c $(CONSTRAINTS) "$$(echo dist/*.whl)[test]"
	folder=$$(mktemp -d) && git archive HEAD | tar -x -C "$$folder" --exclude=src \
		&& cd "$$folder" && $(CURDIR)/.venv-wheel/bin/$(PYTEST) $(QUICK) $(NEEDS_EXTRAS) --ignore=$(APART) && rm -r "$$folder"

gpu: $(VENV)/installed-test  ## what every method promises and a step's price on an accelerator; DEVICE=cpu runs the tests alone
	IMBSAM_TEST_DEVICE=$(DEVICE) CUBLAS_WORKSPACE_CONFIG=:4096:8 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs $(ON_DEVICE)
	test $(DEVICE) = cpu || $(BIN)/python benchmarks/speed/measure.py --device $(DEVICE) --workloads mlp vit resnet32-gn resnet32-bn \
		--batches 128 256 512 1024 --precisions float32 bfloat16
	test $(DEVICE) = cpu || $(BIN)/python benchmarks/speed/table.py --write

lint: $(VENV)/installed-lint  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-lint  ## mends style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(VENV)/installed-lint  ## checks style at every git commit
	$(BIN)/pre-commit install

docs: $(VENV)/installed-dev  ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

evidence: $(VENV)/installed-dev  ## tables and figures of the studies, out of their runs
	$(BIN)/python benchmarks/anomaly/collect.py
	$(BIN)/python benchmarks/anomaly/collect.py --study blend
	$(BIN)/python benchmarks/family/run.py
	$(BIN)/python benchmarks/images/collect.py
	$(BIN)/python benchmarks/images/ladder.py
	$(BIN)/python benchmarks/images/long.py
	$(BIN)/python benchmarks/tables/collect.py
	$(BIN)/python benchmarks/tables/collect.py --study peers
	$(BIN)/python benchmarks/speed/table.py --write
	$(BIN)/python benchmarks/evidence.py

tour: $(VENV)/installed-dev  ## runs the notebook, and keeps what it shows
	OMP_NUM_THREADS=1 $(BIN)/python docs/hooks/run_notebook.py examples/tour.ipynb

wheel:  ## the wheel of a release, in dist
	rm -rf dist
	$(PYTHON) -m pip --disable-pip-version-check -q wheel --no-deps -w dist .

clean:  ## removes what the other targets made
	rm -rf .venv-wheel .venv-oldest $(VENV) build demo dist
