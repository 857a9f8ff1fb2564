# What a person types. Each target is a line or two of what it does.
PYTHON ?= python3
BENCH_ARGS ?=
CHECK_ARGS ?=
TEST_ARGS ?=
BIN := .venv/bin

# HTCondor as root is a system service and XRootD refuses root; inside a user namespace we are an ordinary user instead.
ifeq ($(shell id -u),0)
AS_USER := unshare --user --map-user=65534 --map-group=65534
endif

# Tests on a real Kubernetes run as root in a machine of its own. What they need is made before, once; what fails to be made skips its tests.
# `make test` has time for some of them; `make test-kube` and CI run all but the long ones.
KUBE_TESTS ?= kube and not long and not more
KUBE_IMAGES ?= agent python-analysis
PREPARE_KUBE = $(BIN)/python -m af_hub.testing.kube_images $(KUBE_IMAGES) || true
# Tests of the chart render it with helm; compiling that takes longer than a test may.
PREPARE_CHART = $(BIN)/python -m af_hub.testing.kube_build helm || true
TEST_KUBE = $(BIN)/python -m af_hub.testing.kube_machine $(BIN)/python -m pytest -q -m "$(KUBE_TESTS)" $(TEST_ARGS) || test $$? -eq 5

# Tests of worker nodes with accounts run where there are many. Status 5: TEST_ARGS chose none of them.
TEST_ACCOUNTS = $(BIN)/python -m af_hub.testing.accounts $(BIN)/python -m pytest -q -m accounts $(TEST_ARGS) || test $$? -eq 5

.PHONY: help setup setup-for-tests demo demo-check demo-kube test test-kube test-fast test-long bench bench-policy bench-tokens bench-pods bench-reflector lint docs clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## */\1\t/p' $(MAKEFILE_LIST)

# The virtual environment: made anew when the lock file changes. These modules need nothing but Python.
.venv/stamp: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there); AF Hub needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m af_hub.demo.machine $(WANTED)
	@echo "Making .venv from requirements.lock (about two minutes the first time) ..."
	@$(PYTHON) -m af_hub.demo.environment .venv requirements.lock
	@touch $@

# This checkout in it: its commands and its pytest plugin stand in pyproject.toml.
.venv/installed: .venv/stamp pyproject.toml
	@$(BIN)/python -m af_hub.demo.environment .venv --editable .
	@touch $@

setup: WANTED := --daemons
setup: .venv/installed   ## everything that demo and tests need, once
	@$(AS_USER) $(BIN)/af-hub demo-setup

demo: setup          ## the whole facility on this machine; Ctrl-C ends it
	@$(AS_USER) $(BIN)/af-hub demo --with-parent

demo-check: setup    ## the way of a user through the demo, hop by hop, without a person
	@$(AS_USER) $(BIN)/af-hub demo-check --with-parent $(CHECK_ARGS)

demo-kube: WANTED := --daemons --kube
demo-kube: .venv/installed   ## the demo with sessions as pods of a real Kubernetes; needs root, and once Go and about ten minutes
	@$(BIN)/python -m af_hub.demo.machine --kube
	@$(AS_USER) $(BIN)/af-hub demo-setup
	@$(BIN)/af-hub demo-kube --with-parent

setup-for-tests: .venv/installed
	@$(AS_USER) $(BIN)/af-hub demo-setup --keep-going

# Two at a time, as tests/conftest.py shares them out: most of them wait for daemons most of the time.
test: setup-for-tests   ## all tests; what this machine cannot run is skipped with the reason
	@$(PREPARE_CHART)
	@$(AS_USER) $(BIN)/python -m pytest -q -m "not long and not accounts and not kube" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)
	@$(TEST_ACCOUNTS)
	@$(PREPARE_KUBE)
	@$(TEST_KUBE)

test-kube: KUBE_TESTS := kube and not long
test-kube: KUBE_IMAGES :=
test-kube: setup-for-tests   ## the tests on a real Kubernetes alone; needs root, and once Go and about ten minutes
	@$(PREPARE_KUBE)
	@$(TEST_KUBE)

test-fast: .venv/installed   ## the quick tests, which start no daemons of others
	@$(AS_USER) $(BIN)/python -m pytest -q -m "not real and not slow and not long and not kube" --numprocesses auto --dist worksteal $(TEST_ARGS)

test-long: KUBE_TESTS := kube
test-long: KUBE_IMAGES :=
test-long: setup-for-tests   ## the full matrices too
	@$(PREPARE_CHART)
	@$(AS_USER) $(BIN)/python -m pytest -q -m "not accounts and not kube" $(TEST_ARGS)
	@$(TEST_ACCOUNTS)
	@$(PREPARE_KUBE)
	@$(TEST_KUBE)

bench: setup         ## figures beside what people know, written into docs; about five minutes, on a quiet machine
	@$(AS_USER) $(BIN)/python -m tests.bench --write $(BENCH_ARGS)

bench-policy: .venv/installed   ## how long a decision takes where there are two thousand groups; half a minute
	@$(BIN)/python -m tests.bench.policy $(BENCH_ARGS)

bench-tokens: .venv/installed   ## a thousand people refresh at one moment, beside plain oauthenticator; about two minutes
	@$(BIN)/python -m tests.bench.storm --check $(BENCH_ARGS)

bench-pods: .venv/installed   ## login to JupyterLab in a pod, beside plain KubeSpawner; needs what test-kube needs; about six minutes
	@$(PREPARE_KUBE)
	@$(BIN)/python -m af_hub.testing.kube_machine $(BIN)/python -m tests.bench.pods $(BENCH_ARGS)

bench-reflector: .venv/installed   ## the hub's event loop while a hundred pods start in a simulated cluster; about five minutes
	@$(AS_USER) $(BIN)/python -m tests.bench.reflector --check $(BENCH_ARGS)

lint: .venv/installed    ## ruff, mypy, import contracts, docs with warnings as errors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: .venv/installed    ## the documentation, into docs/_build/html
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

clean:               ## remove what was made here; the user's cache stays
	rm -rf .venv .venv.lock .images .demo .demo-* .bench-* docs/_build
