# SPDX-License-Identifier: GPL-2.0-only
"""Each rejected memslot on a real kernel: the errno, the cause that pyvmm names, how sure it is."""

import pytest

from pyvmm.kvm import System
from pyvmm.provoke.registrations import PROVOCATIONS
from pyvmm.provoke.runner import provoke
from pyvmm.provoke.testbed import Provocation

# Where it is not EINVAL.
ERRNOS = {
    "slots-overlap": "EEXIST",
    "slot-in-child": "EIO",
    "slot-without-memory": "ENOMEM",
    "guest-memfd-fd-closed": "EBADF",
    "slot-logged-in-protected-vm": "EPERM",
    "slot-beyond-ipa-size": "EFAULT",
}
INFERRED = {
    "slot-unknown-flag",  # a newer kernel may know the flag
    "slot-without-memory",  # user space does not see what the kernel allocates
}


@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda each: each.name)
def test_rejection_is_named(kvm: System, provocation: Provocation) -> None:
    [result] = provoke([provocation])
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.failure is not None
    assert result.failure.ioctl.startswith("KVM_SET_USER_MEMORY_REGION")
    assert (result.cause, result.as_expected) == (provocation.cause, True)
    assert result.mark == ("inferred" if provocation.name in INFERRED else "known")
    errnos = {ERRNOS.get(provocation.name, "EINVAL")}
    if provocation.name == "guest-memfd-bound-twice":
        errnos.add("EEXIST")  # since Linux 7.3
    assert result.failure.errno in errnos
    assert result.kernel == f"{result.failure.errno} at registration"
    assert (result.record, result.guest) == (None, "did not run")
