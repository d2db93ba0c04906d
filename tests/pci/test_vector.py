# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import Vm
from pyvmm.kvm.eventfds import attach_irqfd
from pyvmm.pci.gsi_routes import GsiRoutes
from pyvmm.pci.vector import Vector
from tests.pci.conftest import BOARD
from tests.process import open_fds

pytestmark = pytest.mark.needs_arch("aarch64")

TRANSLATER = BOARD.gic.its + 0x1_0040


def test_each_vector_has_a_gsi_of_its_own(gic_vm: Vm) -> None:
    routes = GsiRoutes(gic_vm)
    with Vector(gic_vm, routes) as one, Vector(gic_vm, routes) as two:
        assert one.gsi != two.gsi
    with Vector(gic_vm, routes) as again:
        assert again.gsi == one.gsi


def test_attach_and_detach_are_idempotent(gic_vm: Vm) -> None:
    before = open_fds()
    with Vector(gic_vm, GsiRoutes(gic_vm)) as vector:
        vector.route(TRANSLATER, 5, 8)
        vector.attach()
        vector.attach()
        with pytest.raises(IoctlError) as error:  # KVM has it already
            attach_irqfd(gic_vm, vector.eventfd, vector.gsi)
        assert error.value.errno == errno.EBUSY
        vector.detach()
        vector.detach()
        attach_irqfd(gic_vm, vector.eventfd, vector.gsi)
    assert open_fds() == before


def test_more_routes_than_one_table_holds_at_first(gic_vm: Vm) -> None:
    routes = GsiRoutes(gic_vm)
    vectors = []
    for data in range(100):
        vectors.append(Vector(gic_vm, routes))
        vectors[-1].route(TRANSLATER, data, 8)
    assert sorted(vector.gsi for vector in vectors) == list(range(100))
    for vector in vectors:
        vector.close()
