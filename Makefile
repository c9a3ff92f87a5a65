# Everything sets itself up: a private .venv, uv from the package index, the lock file.
PY ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo test heavy check fix bench e2e coverage simulate kills

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml packages/slipway_host/pyproject.toml uv.lock
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "slipway needs Python 3.11 or newer: make setup PY=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PY) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV= $(BIN)/uv sync --frozen --inexact --compile-bytecode --quiet
	@touch $@

setup: $(STAMP) ## .venv with the slipway command in it
	@echo "ready: $(BIN)/slipway up"

demo: $(STAMP) ## deploy a really trained model in a temporary folder and call it
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## all tests, the long ones in their short form
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not heavy"

heavy: $(STAMP) ## the long tests
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m heavy

kills: $(STAMP) ## 20,000 asynchronous requests under 500 kill -9 of everything, and a table of what was kept (15 minutes)
	@SLIPWAY_KILLS=500 SLIPWAY_KILLS_REQUESTS=20000 $(BIN)/python -m pytest -s -m heavy tests/faults/test_async_kills.py

e2e: $(STAMP) ## only the tests that drive real processes
	@$(BIN)/python -m pytest tests/e2e tests/faults

SEEDS ?= 10000
simulate: $(STAMP) ## asynchronous inference on virtual time, with kills: 10,000 runs by chance (SEEDS=N: so many)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

check: $(STAMP) ## format, lint, types, import rules, generated docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m slipway.cli.coverage --check docs/coverage.md
	@$(BIN)/python -m slipway.cli.files --check docs/files.md

fix: $(STAMP) ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

coverage: $(STAMP) ## write docs/coverage.md and docs/files.md anew
	@$(BIN)/python -m slipway.cli.coverage --write docs/coverage.md
	@$(BIN)/python -m slipway.cli.files --write docs/files.md

bench: $(STAMP) ## measure, both sides in one run, and print ratios
	@$(BIN)/python -m bench
