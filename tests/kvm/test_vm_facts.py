# SPDX-License-Identifier: GPL-2.0-only
"""The state of a VM. `tests/provoke/test_vcpu_states.py` shows a dead one."""

import os

from pyvmm.kvm import Vm
from pyvmm.kvm.vm_facts import file_name, vm_state
from pyvmm.provoke.forked import in_child
from pyvmm.provoke.testbed import Failure
from pyvmm.why import VmState


def test_a_vm_of_this_process(vm: Vm) -> None:
    assert vm_state(vm) == VmState(same_process=True, dead=False)


def test_a_vm_of_the_parent(vm: Vm) -> None:
    seen = in_child(lambda: Failure("", "", repr(vm_state(vm).same_process), None, ""))
    assert seen
    assert seen.cause == "False"


def test_the_file_behind_a_descriptor(vm: Vm) -> None:
    assert file_name(vm.fileno()) == "anon_inode:kvm-vm"
    closed = os.dup(vm.fileno())
    os.close(closed)
    assert file_name(closed) == ""
