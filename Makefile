# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
BENCH   = ops/bench
# Half the machine's processes are servers that the tests start, so no more test processes than cores.
JOBS   ?= auto

.PHONY: demo test check format clean bench

# The demo needs only what the demo needs; the tests add the tools.
$(VENV)/.demo: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
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
