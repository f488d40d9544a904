# Everything a person types. Each target installs what it needs (packaging/setup/setup.sh);
# a second call costs no time.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo lint check test soak fuzz bench packages trial requirements clean

setup := packaging/setup/setup.sh
bin := .venv/bin

# One process more than there are cores: tests of real programs wait more than they compute.
abreast := --numprocesses=$(shell expr $$(nproc) + 1) --dist=loadfile

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install all that programs, demo and tests need
	@$(setup) programs desktop checks interop postgres nginx ceph

demo: ## Watch the whole path of an event on a virtual desktop, one minute
	@$(setup) programs desktop
	@$(bin)/python -m demo

lint: ## What can be said without running anything: lint, format, types, import contracts
	@$(setup) programs checks
	$(bin)/shellcheck .ci/run packaging/setup/*.sh packaging/deb/*/p*
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports

check: lint ## The same and the fast tests; before each commit
	$(bin)/python -m pytest $(abreast) -m "not slow" tests/unit tests/properties tests/architecture

test: ## Run every test, those on a real (virtual) desktop last; look again at the few that fail
	@$(setup) programs desktop checks interop postgres nginx ceph
	@$(bin)/python -m tests.second_look

soak: ## Run the tests that have a long form at full size: hours
	@$(setup) programs desktop checks interop postgres nginx ceph
	$(bin)/python -m pytest -m soak --soak --timeout=0

fuzz: ## Let coverage-guided fuzzing look for bytes that crash a decoder: five minutes
	@$(setup) programs checks
	@$(bin)/python -m fuzz.guided --seconds 300

bench: ## Measure, each figure beside a floor of the same run: about ten minutes
	@$(setup) programs desktop checks nginx
	@$(bin)/python -m benchmarks

# evdev is left out: pynput's other way on Linux, never taken (it reads the devices, passwords
# included), and its installation would need a compiler.
packages: ## Build the Debian packages into build/packages
	@$(setup) programs
	@$(bin)/python packaging/deb/build.py

trial: ## Install the packages in a clean Debian, live with them, upgrade, purge (as root)
	@$(setup) programs desktop checks clean
	$(bin)/python -m pytest -m install

requirements: ## Renew the pins in requirements/ (asks the package index)
	@/usr/bin/python3 -m venv build/pip-tools
	@build/pip-tools/bin/pip install --quiet pip-tools==7.6.2
	@cd requirements && for list in run test interop; do \
	  CUSTOM_COMPILE_COMMAND="make requirements" ../build/pip-tools/bin/pip-compile \
	    --quiet --upgrade --generate-hashes --strip-extras --no-annotate \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	    --unsafe-package evdev \
	    --output-file $$list.txt $$list.in || exit; \
	done

clean: ## Remove what was installed, built and cached in this folder
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
