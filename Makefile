# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
BENCH   = ops/bench
# Half the machine's processes are servers that the tests start, so no more test processes than cores.
JOBS   ?= auto

.PHONY: help demo test check format clean bench

help:
	@echo "make demo    the whole way once, under a minute; ARGS=--keep leaves it running"
	@echo "make test    all tests, on real servers and processes"
	@echo "make check   ruff, import rules and mypy"

# A virtual environment of our own: that of another Python, or one that was cut off while it was made, is made anew.
define in_venv
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): make $(1) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "dingqueue needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V`: make $(1) PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@echo "Putting what the $(1) needs into $(VENV): half a minute, once."
endef

# The demo needs only what the demo needs; the tests add the tools.
$(VENV)/.demo: pyproject.toml
	$(call in_venv,demo)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(call in_venv,test)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@$(BIN)/dingqueue demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/.dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports
	@$(BIN)/mypy

# Two environments of its own: arq is not there for the Redis client that the others have.
$(BENCH)/.venv/.bench: ops/bench/requirements.txt ops/bench/requirements-arq.txt pyproject.toml
	@test -x $(BENCH)/.venv/bin/python || $(PYTHON) -m venv $(BENCH)/.venv
	@test -x $(BENCH)/.venv-arq/bin/python || $(PYTHON) -m venv $(BENCH)/.venv-arq
	@$(BENCH)/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $(BENCH)/requirements.txt --editable '.[demo]'
	@$(BENCH)/.venv-arq/bin/python -m pip install --quiet --disable-pip-version-check -r $(BENCH)/requirements-arq.txt
	@touch $@

bench: $(BENCH)/.venv/.bench
	@$(BENCH)/.venv/bin/python $(BENCH)/bench.py $(ARGS)

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(BENCH)/.venv $(BENCH)/.venv-arq dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
