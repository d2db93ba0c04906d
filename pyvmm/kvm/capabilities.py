# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel offers: every capability that the headers name, asked of the system and a VM.

The two answers are kept apart because they differ: some capabilities are a VM's only, and say
EINVAL on ``/dev/kvm``.
"""

from dataclasses import dataclass

from pyvmm.errno_names import errno_name
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.names import names


@dataclass(frozen=True)
class CheckResult:
    """What one fd answered: a value, or the name of the error."""

    value: int | None
    errno: str | None


@dataclass(frozen=True)
class Capability:
    """A ``KVM_CAP_*`` with both answers; `vm` is None where no VM could be made."""

    name: str
    number: int
    system: CheckResult
    vm: CheckResult | None

    @property
    def value(self) -> int:
        """What counts for a VMM: the VM's answer if there is one, 0 for none."""
        answer = self.vm or self.system
        return answer.value or 0


def check_all(system: System, vm: Vm | None) -> list[Capability]:
    """Ask about every capability, in the headers' order."""
    return [
        Capability(name, number, _ask(system, number), _ask(vm, number) if vm else None)
        for number, name in names("KVM_CAP_").items()
    ]


def _ask(fd: System | Vm, number: int) -> CheckResult:
    try:
        return CheckResult(fd.check(number), None)
    except IoctlError as error:
        return CheckResult(None, errno_name(error.errno))
