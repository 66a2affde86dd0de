# What a fresh clone needs: Python 3.11 or later, and nothing else. Every target makes what it needs first.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=

TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
# -qq: no warnings, but errors
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -qq
INSTALLED := $(VENV)/installed
BUILT := build/typecheck

export OMP_NUM_THREADS := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: install demo test lint bench clean
.DEFAULT_GOAL := install

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(VENV)/bin/smcbench demo --workers 2

test: $(INSTALLED)
	$(VENV)/bin/pytest -n 2 $(TESTS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@rm -rf build/lib $(BUILT) && $(PIP) install --no-deps --target $(BUILT) .
	cd $(BUILT) && $(abspath $(VENV))/bin/mypy --config-file $(CURDIR)/pyproject.toml \
		-p smcbench -p smcbench_tasks -p smcbench_baselines

bench: $(INSTALLED)
	$(VENV)/bin/pytest tests/benchmarks --benchmark-enable --benchmark-only -s -o python_files='bench_*.py'

clean:
	rm -rf build dist demo .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +

# torch first and by its exact version, so that whatever build pip's own configuration points to stays the one.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "smcbench needs Python 3.11 or later; say: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into $(VENV), once; this takes some minutes"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt '$(TORCH)'
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
