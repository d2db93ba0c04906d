# SPDX-License-Identifier: GPL-2.0-only
"""A real kernel for every test, and the skips that say where a test does run.

Nothing here stands in for KVM: a test that this machine's KVM cannot run says so and runs in the
emulated arm64 host (``python -m pyvmm lab test``), which ``make test`` does as well.
"""

import platform
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pyvmm.errors import LackingError
from pyvmm.kvm import System, Vcpu, Vm
from tests.devices import find

__all__ = ["find"]

# How long an example takes says nothing in the emulated host, where it takes thirty times as long.
EXAMPLES = 25 if platform.machine() == "aarch64" else 100
settings.register_profile("pyvmm", deadline=None, max_examples=EXAMPLES)
settings.load_profile("pyvmm")

HOMES = {
    "aarch64": "run it in the emulated arm64 host: python -m pyvmm lab test",
    "x86_64": "run it on an x86-64 machine with KVM",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_arch(machine): the architecture of the host's KVM")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs_arch"):
        [wanted] = marker.args
        if platform.machine() != wanted:
            pytest.skip(f"needs {wanted}; {HOMES[wanted]}")


@pytest.fixture
def kvm() -> Iterator[System]:
    """``/dev/kvm``."""
    try:
        system = System.open()
    except LackingError as error:
        pytest.skip(str(error))
    with system:
        yield system


@pytest.fixture
def vm(kvm: System) -> Iterator[Vm]:
    """An empty virtual machine."""
    with kvm.create_vm() as vm:
        yield vm


@pytest.fixture
def vcpu(vm: Vm) -> Vcpu:
    """A vCPU that has not been set up."""
    return vm.create_vcpu()
