# What a person types: `make run`, `make test`; `make help` lists the rest.
# Everything is installed into .venv, from hash-locked lists, and nothing outside the checkout changes.

# Interpreters that .venv may be made with, best first; `make run PYTHON=/path/to/python3.12` chooses one.
PYTHON ?= python3 python3.13 python3.12 python3.11 python3.14
# Arguments of `make run` for the daemon, such as ARGS='--workers 4 --listen 0.0.0.0:7000'.
ARGS ?=
# Arguments of `make bench`, such as BENCH_ARGS='--quick --fetch' (see: make bench BENCH_ARGS=--help).
BENCH_ARGS ?=
# Arguments of `make test` for pytest, such as PYTEST_ARGS='-m "not slow"'.
PYTEST_ARGS ?=

# Python's compiled modules are kept, whatever the environment says: else each start compiles all.
unexport PYTHONDONTWRITEBYTECODE

venv := .venv
python := $(venv)/bin/python
install := $(python) -m pip install --quiet --disable-pip-version-check --require-hashes
lock := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --upgrade pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test bench lock clean

# An interpreter that has gone (an upgrade of the system) takes the old .venv with it.
ifneq ($(shell test -x $(python) && echo yes),yes)
.PHONY: $(venv)/.made $(venv)/.installed $(venv)/.installed-tests $(venv)/.installed-bench
endif

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

run: $(venv)/.installed ## Start the daemon; ARGS='...' are its arguments (see: make run ARGS=--help)
	@exec $(python) -m prefork_chat serve $(ARGS)

test: $(venv)/.installed-tests ## Check style, types and layers, run all tests, report coverage
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	$(venv)/bin/lint-imports
	$(python) -m coverage erase
	$(python) -m tests.side_by_side $(PYTEST_ARGS)
	$(python) -m coverage combine --quiet
	$(python) -m coverage report
	@$(python) tests/skipped.py .cache/tests-*.xml

bench: $(venv)/.installed-bench ## Compare with other servers (20 minutes); BENCH_ARGS='--quick' takes two
	$(python) -m benchmarks compare $(BENCH_ARGS)

lock: ## Renew the lock files from pyproject.toml (for maintainers; needs uv)
	$(lock) --extra client --output-file requirements.lock
	$(lock) --extra test --constraints requirements.lock --output-file tests/requirements.lock
	$(lock) --extra bench --constraints requirements.lock --constraints tests/requirements.lock \
		--output-file benchmarks/requirements.lock

clean: ## Remove all that was made
	rm -rf $(venv) .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache dist
	find prefork_chat tests benchmarks systemd -name __pycache__ -prune -exec rm -rf {} +

$(venv)/.made:
	@for candidate in $(PYTHON); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			chosen=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo 'prefork_chat needs CPython 3.11 or newer, and none of these is: $(PYTHON)' >&2; \
		echo 'If you have one elsewhere: make run PYTHON=/path/to/python3.12' >&2; \
		exit 1; \
	fi; \
	if ! "$$chosen" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$chosen has no venv or ensurepip; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi; \
	if ! $(python) -m pip --version >/dev/null 2>&1; then \
		echo "making $(venv) with $$("$$chosen" --version)"; \
		"$$chosen" -m venv --clear $(venv); \
	fi
	@touch $@

# The package itself runs from the tree: a line in site-packages, a command, no build tool to install.
$(venv)/.installed: requirements.lock | $(venv)/.made
	@echo 'installing what prefork_chat needs into $(venv)'
	@$(install) --requirement requirements.lock || { \
		echo 'If a package had to be compiled: apt install gcc python3-dev, then try again.' >&2; exit 1; }
	@$(python) -c 'import pathlib, sysconfig; \
		site = pathlib.Path(sysconfig.get_path("purelib")); \
		(site / "prefork_chat.pth").write_text(str(pathlib.Path.cwd()) + "\n")'
	@printf '#!/bin/sh\nexec "%s" -m prefork_chat "$$@"\n' "$(CURDIR)/$(python)" >$(venv)/bin/prefork-chat
	@chmod +x $(venv)/bin/prefork-chat
	@touch $@

$(venv)/.installed-tests: tests/requirements.lock $(venv)/.installed
	@echo 'installing what its tests need into $(venv)'
	@$(install) --requirement tests/requirements.lock
	@mkdir -p .cache
	@touch $@

$(venv)/.installed-bench: benchmarks/requirements.lock $(venv)/.installed
	@echo 'installing what the comparison needs into $(venv)'
	@$(install) --requirement benchmarks/requirements.lock
	@touch $@
