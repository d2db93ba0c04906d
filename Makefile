# SPDX-License-Identifier: GPL-2.0-only
# `make run` probes a device, `make test` runs all tests. Both first install what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
RUNNABLE := $(VENV)/runnable
PYVMM := $(BIN)/python -m pyvmm
SPHINX := $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going

# Each of them runs whole test modules, in the order of the command line, and boots its own hosts.
JOBS ?= 2
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Debian packages. The emulated host needs none: its parts are downloaded into the user's cache.
RUN_PACKAGES := python3-venv
TEST_PACKAGES := $(RUN_PACKAGES) \
	gcc libc6-dev gcc-aarch64-linux-gnu \
	binutils binutils-aarch64-linux-gnu \
	qemu-system-x86 seabios strace

# The tests that need an arm64 kernel, in emulated hosts with all five devices; long modules first.
# `unit` runs those that do not depend on the machine, and those of the tracer, which take minutes
# under emulation.
LAB_TESTS := tests/campaign tests/provoke tests/passthrough tests/faults tests/linux tests/machine \
	tests/kvm tests/vfio tests/pci tests/sandbox tests/why tests/test_examples.py \
	$(addprefix tests/arch/arm64/test_,cpu_features.py registers.py setup.py vgic.py) \
	tests/caps/test_caps_report.py tests/explain/test_conditions.py tests/explain/test_process.py \
	tests/cli/test_run.py tests/cli/test_boot.py tests/testing/test_board_agent.py
LAB_EXCLUDES := $(addprefix --ignore=tests/vfio/test_,bars.py bdf.py region_caps.py cap_chains.py) \
	--deselect=tests/test_examples.py::test_trace_asks
LAB_DEVICES := grace edu nvme bochs disk
# The tests whose results differ on a CPU without FWB and DIC.
LAB_TESTS_WITHOUT_FWB := tests/provoke tests/passthrough tests/faults tests/why \
	$(addprefix tests/test_examples.py::test_,three_requirements linux_guest) \
	$(addprefix tests/linux/test_boot.py::test_,cacheable_device_memory flipped_device_memory \
		device_memory_as_ram)

# The matrix of CAUSES.md. Debian has neither a 6.1 kernel with 16 KiB pages nor an nvgrace driver.
CAUSES_KERNELS := $(addprefix debian:,6.1 6.12 6.18 7.2 7.3 6.12-16k 6.18-16k 7.2-16k 7.3-16k)
CAUSES := build/causes

PREFIX ?= /usr/local

.PHONY: run test lint lab-setup unit lab-test campaign causes bench docs docs-links share install-man dist \
	packages-run packages-test clean

# To probe a device of this machine: make run VFIO=0000:01:00.0
run: packages-run $(RUNNABLE)
ifdef VFIO
	$(PYVMM) --vfio $(VFIO)
else
	$(PYVMM) lab run --kernel debian --device bochs -- --vfio 0000:01:00.0
endif

test: packages-test lint lab-setup unit lab-test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Builds the lab's kernel once, in ten minutes on two cores. The lab's own tests use it too.
lab-setup: $(INSTALLED)
	$(PYVMM) lab setup --kernel lab

unit: $(INSTALLED)
	$(BIN)/pytest $(PARALLEL)

lab-test: lab-setup
	$(BIN)/pytest $(PARALLEL) --lab --lab-kernel lab --lab-cpu max \
		$(addprefix --lab-device=,$(LAB_DEVICES)) $(LAB_EXCLUDES) $(LAB_TESTS)
	$(BIN)/pytest $(PARALLEL) --lab --lab-kernel lab --lab-cpu neoverse-n1 \
		--lab-device=grace --lab-device=bochs $(LAB_EXCLUDES) $(LAB_TESTS_WITHOUT_FWB)

# Thousands of hostile guests, kills and mutated inputs, in hours. The same command continues.
campaign: packages-test lab-setup
	$(BIN)/python -m tests.campaign --resume build/campaign $(NAMES)

# Writes CAUSES.md, in an hour. The same command continues; remove build/causes to start again.
causes: lab-setup
	mkdir -p $(CAUSES)
	$(call provoke_all,debian,max neoverse-n1,$(CAUSES_KERNELS),bochs)
	$(call provoke_all,lab,max neoverse-n1 max+mte,lab,grace bochs)
	$(call provoke_all,protected,max,lab,grace bochs,--mode protected --memory 448M)
	$(BIN)/python -m pyvmm.lab.causes \
		$(addprefix $(CAUSES)/,debian.json lab.json protected.json) >$(CAUSES)/CAUSES.md
	mv $(CAUSES)/CAUSES.md CAUSES.md

# $(call provoke_all,NAME,CPUS,KERNELS,DEVICES,OPTIONS). The command fails if a cause is not the
# expected one, after it has written NAME.json. memfd_secret(2) is off by default before Linux 6.5.
# Debian's kernels, since 7.2, map the BARs of a bound device through sysfs only with iomem=relaxed.
provoke_all = $(PYVMM) lab matrix --json --resume $(CAUSES) $(addprefix --cpu ,$2) \
	$(addprefix --kernel ,$3) $(addprefix --device ,$4) $5 --timeout 7200 \
	--append 'secretmem.enable=1 iomem=relaxed' -- provoke --all --provenance --json \
	>$(CAUSES)/$1.json || [ -s $(CAUSES)/$1.json ]

# With JSON=FILE, also writes a document; pyvmm html FILE… -o PAGE draws several of them.
bench: packages-test $(INSTALLED)
	$(BIN)/python -m tests.bench $(if $(JSON),--json >$(JSON))

# The site, in build/docs/html. Links within it are checked; docs-links checks the others as well.
docs: $(VENV)/docs
	$(BIN)/python -m tools.site build/docs/source
	$(SPHINX) -b html build/docs/source build/docs/html

docs-links: docs
	$(SPHINX) -b linkcheck build/docs/source build/docs/links

$(VENV)/docs: $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# The man page, and the completion of bash, zsh and fish, from the parsers of the command line.
share: $(INSTALLED)
	$(BIN)/python -m tools.share share

install-man: share
	mkdir -p $(DESTDIR)$(PREFIX)
	cp -R share $(DESTDIR)$(PREFIX)

# The wheel and the source distribution, checked and tried outside of the checkout.
dist: share
	rm -rf dist build/wheel
	$(BIN)/pip install --quiet --editable '.[packaging]'
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet "$$(echo dist/*.whl)[lab]"
	cd / && $(CURDIR)/build/wheel/bin/pyvmm lab run -- caps

# A flock makes a second make wait; it then finds the file, which is created last.
$(INSTALLED): EXTRAS := dev
$(RUNNABLE): EXTRAS := cli,decode,trace,lab
$(INSTALLED) $(RUNNABLE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pyvmm needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 3; }
	exec 9<$<; flock 9; [ $@ -nt $< ] || { \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]' && \
		touch $@; }

packages-run packages-test: packages-%:
	@exec 9</var/lib/dpkg; flock 9; \
	missing=; for package in $($(shell echo $* | tr a-z A-Z)_PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed' || \
			missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing Debian packages:$$missing"; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq 9<&- && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq \
			-o DPkg::Lock::Timeout=600 --no-install-recommends $$missing >/dev/null 9<&-; \
	fi

clean:
	rm -rf $(VENV) build dist share *.egg-info
