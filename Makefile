# Every target works from a bare clone: the environment is made on first use from the hashed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready

MINIMAL := .venv-minimal

.PHONY: install demo test test-slow test-minimal lint format docs bench notebooks lock clean

install: $(READY)

$(READY): $(LOCK)
	$(PYTHON) -c 'import sys; sys.exit("badrjax needs Python 3.11 or newer; try make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)
	$(BIN)/python -m experiments nash_demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	BADRJAX_TEST_OPTIMISED=1 $(BIN)/python -m pytest -n auto --dist loadfile -m slow

# The oldest versions that pyproject.toml allows, in an environment of their own. What these versions themselves warn of
# is no error here.
test-minimal: requirements/minimal.txt
	$(PYTHON) -m venv --clear $(MINIMAL)
	$(MINIMAL)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/minimal.txt
	$(MINIMAL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(MINIMAL)/bin/python -m pytest -W default -n auto --dist loadfile tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Executes the notebooks, which are kept as text, and rewrites their rendered twins. COMPAS is read from BADRJAX_DATA.
notebooks: $(READY)
	$(BIN)/python notebooks/render.py

# The site, into site/; nothing is fetched. The variable silences a notice of the theme about its own future.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(BENCH_READY)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.sweep_rates
	$(BIN)/python -m benchmarks.badr
	$(BIN)/python -m benchmarks.fairlab
	$(BIN)/python -m benchmarks.fairbinn

# torch is not in the lock: see benchmarks/README.md.
$(BENCH_READY): $(READY) requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/bench.txt
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check torch
	touch $@

# Needs uv. The lock serves every supported Python through environment markers.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
		--extra experiments --group dev pyproject.toml -o $(LOCK)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
		--group bench pyproject.toml -c $(LOCK) -o requirements/bench.txt
	uv pip compile --universal --resolution lowest-direct --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --quiet --extra experiments --extra checkpoints --extra estimators --group dev pyproject.toml \
		-o requirements/minimal.txt

clean:
	rm -rf $(VENV) outputs dist site .jax_cache
