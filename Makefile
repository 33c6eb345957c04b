# Everything that is done with this checkout. It needs make, a Python from 3.11 on, and the package registry.
# The virtual environment .venv is made here and reused; `make clean` removes whatever make has made.

PYTHON ?= python3
FUZZ_COUNT ?= 1000000
KILLS ?= 1000
VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help environment demo test test-pythons check format bench bench-quick fuzz soak docs clean

help:            ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

environment:     ## make or refresh .venv
	@$(PYTHON) tools/environment.py

demo: environment  ## read good, damaged and hostile files, each kind in its own domain; DEMO="--report demo.html"
	@$(VENV_PYTHON) -m cloister demo $(DEMO)

test:            ## run each test of the suite once: programs on this Python, the library on the newest one, with coverage
	@$(PYTHON) tools/run_tests.py

test-pythons:    ## run the core of the suite on the Pythons that `make test` has left out
	@$(PYTHON) tools/run_tests.py --others

check: environment  ## lint, format, types for three platforms, layers, documents
	@$(VENV_PYTHON) tools/run_checks.py

format: environment  ## put the code into its one form
	@.venv/bin/ruff check --fix-only -q . ; .venv/bin/ruff format -q .

bench: environment  ## measure, interleaved, against the floor and the peers; some: BENCH="pipes codec"; PEERS=ray: with Ray
	@for peer in $(PEERS); do $(VENV_PYTHON) -m benchmarks peer $$peer || exit 1; done
	@$(VENV_PYTHON) -m benchmarks $(BENCH)

bench-quick: environment  ## the same in short runs: to see that all works, not for figures to quote
	@$(VENV_PYTHON) -m benchmarks --quick $(BENCH)

fuzz: environment  ## feed FUZZ_COUNT hostile inputs to everything that reads
	@$(VENV_PYTHON) tools/run_fuzz.py $(FUZZ_COUNT)

soak: environment  ## kill KILLS domains at random moments; random schedules and graphs of waits, domains in a row, 100,000 calls each way
	@$(VENV_PYTHON) -m tests.soak.kills $(KILLS)
	@$(VENV_PYTHON) -m tests.soak.schedules
	@$(VENV_PYTHON) -m tests.soak.loop_schedules
	@$(VENV_PYTHON) -m tests.soak.loop_domains
	@$(VENV_PYTHON) -m tests.soak.both_ways
	@$(VENV_PYTHON) -m tests.soak.circles
	@for level in thread interpreter process; do $(VENV_PYTHON) -m tests.soak.levels $$level 500 || exit 1; done

docs: environment  ## build the documents into docs/_build/html
	@$(VENV_PYTHON) tools/run_checks.py docs && echo "docs/_build/html/index.html"

clean:           ## remove environments, caches and builds
	rm -rf .venv .venv-3.* .cache docs/_build benchmarks/results build dist
