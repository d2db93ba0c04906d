# SPDX-License-Identifier: GPL-2.0-only
# `make run` runs the main job, `make test` the tests; each first sets up what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYVMM := $(BIN)/python -m pyvmm

# Debian packages, and what each is for.
RUN_PACKAGES := \
	python3-venv \
	qemu-system-arm \
	mmdebstrap
TEST_PACKAGES := \
	python3-venv \
	binutils binutils-aarch64-linux-gnu \
	gcc libc6-dev gcc-aarch64-linux-gnu

.PHONY: run test lint unit lab-test bench packages-run packages-test clean

run: packages-run $(BIN)/pyvmm
	$(if $(VFIO),$(PYVMM) --vfio $(VFIO),$(PYVMM) lab run --device bochs -- --vfio 0000:01:00.0)

test: packages-test lint unit lab-test

lint: $(BIN)/pyvmm
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(BIN)/pyvmm
	$(BIN)/pytest

lab-test: $(BIN)/pyvmm
	$(PYVMM) lab setup
	$(PYVMM) lab test

bench: $(BIN)/pyvmm
	$(BIN)/python -m tests.bench

$(BIN)/pyvmm: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pyvmm needs Python 3.11 or newer; name one: make PYTHON=…" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

packages-run packages-test: packages-%:
	@missing=; for package in $($(shell echo $* | tr a-z A-Z)_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed' || \
			missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing Debian packages:$$missing"; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && \
		$$sudo env DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq --no-install-recommends $$missing >/dev/null; \
	fi

clean:
	rm -rf $(VENV) build dist *.egg-info
