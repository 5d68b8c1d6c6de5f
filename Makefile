# `make help` lists what there is. PYTHON=python3.10 chooses the Python of .venv.
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help setup demo live-demo test test-fast check lint types bench docs notebook real-data brokers clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything for running, testing and notebooks
	@tools/setup.sh dev

demo: ## Generate a shop's events, replay them and show what was found
	@tools/setup.sh run
	@$(BIN)/journeys demo

test: setup ## Run all tests
	@[ "$$CI" != true ] || tools/get_brokers.sh
	$(BIN)/pytest -n 2

test-fast: setup ## Run the tests that take no more than a second or two each
	$(BIN)/pytest -n 2 -m "not slow"

check: lint types ## Everything that is checked without running tests

lint: setup ## Style, import rule and sizes
	$(BIN)/ruff check
	$(BIN)/python tools/check_imports.py
	$(BIN)/python tools/check_sizes.py

types: setup ## Types, strictly
	$(BIN)/mypy

bench: setup ## Speed against DuckDB SQL, Bytewax's windows and Spark (docs/benchmark.md)
	$(BIN)/python -m pip install -q -r bench/requirements.txt
	$(BIN)/python bench/run.py

docs: setup ## Check docs/ against the commands, settings and tables that it describes
	$(BIN)/pytest -q tests/test_docs_*.py

notebook: setup ## Open the notebook on the demo's warehouse in a browser
	@test -d build/demo/warehouse || $(BIN)/journeys demo >/dev/null
	JOURNEYS_WAREHOUSE=build/demo/warehouse $(BIN)/marimo edit notebooks/first_journey.py

real-data: setup ## Get a real shop's clickstream into data/real and replay it
	$(BIN)/python tools/fetch_shop.py
	$(BIN)/journeys replay data/real/simple-onlineshop.csv -c data/examples/onlineshop.toml -w build/real/warehouse
	$(BIN)/journeys show -w build/real/warehouse

brokers: setup ## Get Kafka and RabbitMQ and run both until Ctrl-C
	@tools/get_brokers.sh
	@$(BIN)/python -m tests.brokers

live-demo: setup ## Customers on Kafka and RabbitMQ, `journeys run`, and the funnel as it moves
	@tools/get_brokers.sh
	@PYTHONPATH=. $(BIN)/python tools/live_demo.py

clean: ## Remove what was built or cached; .venv and warehouses stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
