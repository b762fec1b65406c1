# Everything one does with a checkout. Each target creates what it needs; a second call is quick.
# The variables KAFKA, WORKERS, ONCE, REPORT and every INCIDENTS_* pass through, from the
# command line or the environment: `make run WORKERS=2 KAFKA=apache`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements/dev.txt
PACKAGES := deploy/install-debian-packages.sh
# Arguments for pytest: `make test ARGS='tests/rules -x'`.
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z.]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(STAMP) ## start everything on this machine and serve until Ctrl-C (WORKERS=N, KAFKA=apache|tansu)
	@exec $(BIN)/incidents run

.PHONY: demo
demo: $(STAMP) ## the same, fed with a sample storm; ONCE=1 stops afterwards and checks the sums
	@exec $(BIN)/incidents demo

.PHONY: load
load: $(STAMP) ## 1,000 messages/s for 60 s, against a running system or one of its own (ROLLING=1: every role is restarted; REPORT=FILE)
	@exec $(BIN)/incidents load

.PHONY: chaos
chaos: $(STAMP) ## hurt a system by seed and check the laws: SECONDS, RATE, SEED or SEEDS, FAULTS, WORKERS, PLANTED=1, REPORT=FILE
	@$(PACKAGES) rabbitmq-server strace
	@exec $(BIN)/python -m tests.chaos

.PHONY: uptime
uptime: $(STAMP) ## 30 minutes with a fault every 30 s: the share of ingest calls answered (SECONDS, RATE, EVERY, SEED, FAULTS, REPORT=FILE)
	@$(PACKAGES) rabbitmq-server
	@exec $(BIN)/python -m tests.chaos.uptime

.PHONY: differential
differential: $(STAMP) ## random scripts against the real Alertmanager and us: SCRIPTS=200, SEED, MODE=on|off|both, SIMULATED=1, REPORT=FILE
	@$(PACKAGES) prometheus-alertmanager
	@exec $(BIN)/python -m tests.differential $(if $(SCRIPTS),--scripts $(SCRIPTS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(MODE),--mode $(MODE)) $(if $(SIMULATED),--simulated) $(if $(REPORT),--report $(REPORT))

.PHONY: simulate
simulate: $(STAMP) ## random lives of the pure core, each in several ways: SEEDS=10000, SEED=N is the first
	@exec $(BIN)/python -m tests.simulation.seeds $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: $(STAMP) ## each stage alone and the whole, in alerts/s and CPU (MESSAGES=100000, SECONDS=10, BATCH, WORKERS, REPORT=FILE)
	@exec $(BIN)/incidents bench

.PHONY: handover
handover: $(STAMP) ## how long a partition's state takes to another worker: Faust's own way and ours (KEYS="10000 ...", REPORT=FILE)
	@exec $(BIN)/python -m loadtests.handover $(KEYS)

.PHONY: test
test: $(STAMP) ## all tests, against real services (ARGS=... for pytest, KAFKA=apache|tansu, REQUIRE_KAFKA=1)
	@$(PACKAGES) rabbitmq-server chromium prometheus prometheus-alertmanager
	@exec $(BIN)/python .ci/test.py $(ARGS)

.PHONY: check
check: $(STAMP) ## lint, format, types, security, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy .ci/*.py
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive streams agents sinks web embedded migrations loadtests .ci
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/python -m pip check
	$(BIN)/python .ci/audit.py $(LOCK)

.PHONY: release
release: $(STAMP) ## wheel, source archive, bill of materials and checksums into dist/
	@$(BIN)/python .ci/release.py

.PHONY: lock
lock: $(STAMP) ## resolve the dependencies anew and write requirements/*.txt
	@$(BIN)/python .ci/lock.py

.PHONY: clean
clean: ## remove what was built or cached, not the data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: .venv
.venv: $(STAMP)

# Hash-checked, so that what is installed is what was locked, wherever it comes from.
$(STAMP): $(LOCK) pyproject.toml
	@python=$$(deploy/find-python.sh); \
	if ! [ -x $(BIN)/python ] || ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "creating $(VENV) with $$($$python --version)"; $$python -m venv --clear $(VENV); \
	fi
	@echo "installing the locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
