# Two commands for the first hour: make demo, make test. Both make .venv from the lock file by themselves.
# ARGS is handed on:  make demo ARGS=--once    make test ARGS="-k mllp"
# What was read once is read from its compiled form by the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
ARGS   ?=
ROUNDS ?= 1
BIN    := .venv/bin
# The whole suite runs in three processes, on two cores too: they often wait for others. What ARGS picks runs in one.
WHOLE  := --numprocesses=3 --dist=worksteal

.PHONY: demo test check bench campaign lint lock clean

demo: .venv/.ready
	@$(BIN)/bridge demo $(ARGS)

test: .venv/.ready
	@$(BIN)/python -m pytest $(if $(strip $(ARGS)),$(ARGS),$(WHOLE))

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test

bench: .venv/.ready
	@$(BIN)/python -m tests.bench $(ARGS)

# Kills, power cuts, faults of every kind: about 20 minutes a round. ROUNDS=20 goes on for hours, results add up.
campaign: .venv/.ready
	@$(BIN)/python -m tests.campaign --rounds $(ROUNDS) $(ARGS)

# A step that failed leaves no stamp, so the next call does it again.
.venv/.ready: deploy/requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 ...")'
	@echo "setting up .venv from deploy/requirements-dev.lock (a minute or two, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-dev.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Written without a registry's address: where packages come from is the machine's own setting.
lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra dev pyproject.toml -o deploy/requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra s3 pyproject.toml -c deploy/requirements-dev.lock -o deploy/requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
