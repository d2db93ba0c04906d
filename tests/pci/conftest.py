# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator

import pytest

from pyvmm.arch.arm64 import setup
from pyvmm.arch.arm64.vgic import create_gic, create_its
from pyvmm.kvm import System, Vm
from pyvmm.linux.board import SPIS, Board

BOARD = Board(cpus=1, ram=256 << 20, ipa_bits=40)


@pytest.fixture
def gic_vm(kvm: System) -> Iterator[Vm]:
    """Yield a VM with the board's GIC and ITS."""
    with kvm.create_vm(BOARD.ipa_bits) as vm:
        setup.prepare(kvm, vm, vm.create_vcpu())
        create_gic(vm, BOARD.gic, irqs=SPIS)
        create_its(vm, BOARD.gic)
        yield vm
