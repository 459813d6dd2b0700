# Two commands do everything: `make demo` and `make test`. The logic is in .ci/ and tests/services/; this file only names it.
# A CARGO_TARGET_DIR from outside is honoured.

.PHONY: help demo test build lint test-rust test-python test-heavy bench-tracking crash-matrix soak fmt clean
.DEFAULT_GOAL := help

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: build ## build, start the server on its embedded default, run the main example on real data, stop the server
	@.ci/venv .venv requirements/runtime.txt requirements/demo.txt
	@tests/services/server.sh run --data-dir .cache/demo examples/demo.sh

test: ## everything that CI runs: checks, Rust tests on SQLite and PostgreSQL, Python tests on the built wheels
	@.ci/test all

build: ## bin/mlplat-server, and .venv with both wheels
	@.ci/build

lint: ## formatting, clippy, licences, contracts, Python types
	@.ci/lint

test-rust: ## the Rust tests, on SQLite and PostgreSQL
	@.ci/test rust

test-python: ## the Python tests, on the built wheels
	@.ci/test python

test-heavy: ## Python tests with PyTorch, transformers, MLflow and wandb (downloads several GB)
	@.ci/test-heavy

fmt: ## format Rust and Python
	@.ci/venv .cache/tools requirements/tools.txt
	@cargo fmt --all
	@.cache/tools/bin/ruff format --quiet .
	@.cache/tools/bin/ruff check --quiet --select I --fix .

bench-tracking: build ## tracking beside MLflow, wandb and trackio; a table (OPTIONS=--quick: 2 minutes instead of 10)
	@.venv/bin/python benchmarks/tracking/run.py $(OPTIONS)

crash-matrix: build ## what is lost or doubled when clients, server, network, disks and clocks break (OPTIONS=--repetitions N)
	@.venv/bin/python benchmarks/tracking/crash_matrix.py $(OPTIONS)

soak: build ## 50 runs log for 10 minutes while others search and read: memory, errors, points (OPTIONS=--seconds N)
	@.venv/bin/python benchmarks/tracking/soak.py $(OPTIONS)

clean: ## remove what was built here (a CARGO_TARGET_DIR from outside stays)
	rm -rf bin target .venv .cache
