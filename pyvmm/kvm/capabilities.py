# SPDX-License-Identifier: GPL-2.0-only
"""``KVM_CHECK_EXTENSION`` for every ``KVM_CAP_*`` in the headers.

The system and the VM fd are queried separately, because the results differ: a capability that
depends on the VM fails with EINVAL on ``/dev/kvm``.
"""

from dataclasses import dataclass

from pyvmm.errno_names import errno_name
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.names import names


@dataclass(frozen=True)
class CheckResult:
    """The result of ``KVM_CHECK_EXTENSION`` on one fd: a value, or the name of the errno."""

    value: int | None
    errno: str | None


@dataclass(frozen=True)
class Capability:
    """A ``KVM_CAP_*`` with the results of both fds; `vm` is None without a VM."""

    name: str
    number: int
    system: CheckResult
    vm: CheckResult | None

    @property
    def value(self) -> int:
        """Return the VM fd's value, or the system fd's without a VM; 0 for an error."""
        result = self.vm or self.system
        return result.value or 0


def check_all(system: System, vm: Vm | None) -> list[Capability]:
    """Check every capability on both fds, in the order of the headers."""
    return [
        Capability(name, number, _check(system, number), _check(vm, number) if vm else None)
        for number, name in names("KVM_CAP_").items()
    ]


def _check(fd: System | Vm, number: int) -> CheckResult:
    try:
        return CheckResult(fd.check(number), None)
    except IoctlError as error:
        return CheckResult(None, errno_name(error.errno))
