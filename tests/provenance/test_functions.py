# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.errno_names import EHWPOISON
from pyvmm.provenance.functions import ENTRIES, FUNCTIONS, Returns


@pytest.mark.parametrize(
    ("returns", "value", "name"),
    [
        (Returns.ERRNO, -errno.EFAULT, "-EFAULT"),
        (Returns.ERRNO, -EHWPOISON, "-EHWPOISON"),
        (Returns.PFN, 0x7FF0_0000_0000_0000, "KVM_PFN_ERR_FAULT"),
        (Returns.PFN, 0x7FF0_0000_0000_0002, "KVM_PFN_ERR_RO_FAULT"),
        (Returns.PFN, 0x7FF0_0000_0000_0009, "KVM_PFN_ERR_0x9"),
        (Returns.VM_FAULT, 0x2, "VM_FAULT_SIGBUS"),
        (Returns.VM_FAULT, 0x2 | 0x4, "VM_FAULT_SIGBUS"),  # VM_FAULT_MAJOR is no error
        (Returns.VM_FAULT, 0x11, "VM_FAULT_OOM|VM_FAULT_HWPOISON"),
    ],
)
def test_decode(returns: Returns, value: int, name: str) -> None:
    assert returns.decode(value) == name


def test_events_have_one_name_each() -> None:
    names = [each.name for each in FUNCTIONS] + [each.event for each in ENTRIES]
    assert sorted(names) == sorted(set(names))
