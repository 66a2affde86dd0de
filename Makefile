# What a fresh clone needs: Python 3.11 or later, and nothing else. Every target makes what it needs first.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=

TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
# -qq: no warnings, but errors
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -qq
INSTALLED := $(VENV)/installed
BUILT := build/typecheck
FAIRSEQ := build/fairseq
SITE := import sysconfig; site = sysconfig.get_path("purelib")

export OMP_NUM_THREADS := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: install demo test test-all lint bench page gpu fairseq clean
.DEFAULT_GOAL := install

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(VENV)/bin/smcbench demo --workers 2

test: $(INSTALLED)
	$(VENV)/bin/pytest -n 2 $(TESTS)

# Also what is slow: every sparsifier on the tiny variant of every task.
test-all: $(INSTALLED)
	$(VENV)/bin/pytest -n 2 -m 'not gpu' $(TESTS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@rm -rf build/lib $(BUILT) && $(PIP) install --no-deps --target $(BUILT) .
	cd $(BUILT) && $(abspath $(VENV))/bin/mypy --config-file $(CURDIR)/pyproject.toml \
		-p smcbench -p smcbench_tasks -p smcbench_baselines

bench: $(INSTALLED)
	$(VENV)/bin/pytest tests/benchmarks --benchmark-enable --benchmark-only -s -o python_files='bench_*.py'

# The report in Chromium, which must be there.
page: $(INSTALLED)
	@$(PIP) install -c constraints.txt -e '.[page]'
	$(VENV)/bin/pytest -m page tests/test_page.py

# What needs a CUDA device, and is skipped without one.
gpu: $(INSTALLED)
	$(VENV)/bin/pytest -m gpu $(TESTS)

fairseq: $(FAIRSEQ)/installed
	$(FAIRSEQ)/bin/python -m pytest -m 'fairseq and not slow' tests/test_fairseq.py

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

# fairseq in an environment of its own that also sees the first one: it is old, and is compiled when it is installed.
$(FAIRSEQ)/installed: $(INSTALLED)
	@echo "installing fairseq into $(FAIRSEQ), once; this takes a minute"
	@$(VENV)/bin/python -m venv $(FAIRSEQ)
	@$(VENV)/bin/python -c '$(SITE); print(f"import site; site.addsitedir({site!r})")' \
		> "$$($(FAIRSEQ)/bin/python -c '$(SITE); print(site)')/first.pth"
	@$(subst $(VENV),$(FAIRSEQ),$(PIP)) install -c constraints.txt -e '.[fairseq]'
	@$(subst $(VENV),$(FAIRSEQ),$(PIP)) install --no-deps fairseq==0.12.2
	@touch $@
