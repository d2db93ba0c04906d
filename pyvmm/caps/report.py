# SPDX-License-Identifier: GPL-2.0-only
"""The report: every capability, the CPU's features, and a verdict on what matters."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

from pyvmm.arch.arm64.cpu_features import Features
from pyvmm.arch.native import native
from pyvmm.caps.verdicts import Verdict, judge
from pyvmm.kvm.capabilities import Capability, ask
from pyvmm.kvm.system import System

SCHEMA = "pyvmm.caps/1"


@dataclass(frozen=True)
class Report:
    """What was found out about one host; `features` is None where the CPU has none to tell."""

    kernel: str
    arch: str
    api_version: int
    capabilities: list[Capability]
    features: Features | None
    verdicts: list[Verdict]

    def capability(self, name: str) -> Capability:
        """One capability by its C name. Raises `KeyError`."""
        return {capability.name: capability for capability in self.capabilities}[name]

    def verdict(self, name: str) -> Verdict:
        """One verdict by name. Raises `KeyError`."""
        return {verdict.name: verdict for verdict in self.verdicts}[name]

    @property
    def takes_cacheable_pfnmap(self) -> bool:
        """May a cacheable PFNMAP memslot be registered here, properly supported or not?

        Only a kernel that knows the capability, and answers 0 to it, rejects one.
        """
        capability = self.capability("KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED")
        return bool(capability.value) or capability.system.errno is None

    def to_json(self) -> dict[str, Any]:
        """The report as ``pyvmm caps --json`` prints it."""
        return {
            "schema": SCHEMA,
            "host": {"kernel": self.kernel, "arch": self.arch},
            "kvm": {"api_version": self.api_version},
            "capabilities": [asdict(capability) for capability in self.capabilities],
            "features": _plain(self.features) if self.features else None,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }


def _plain(features: Features) -> dict[str, Any]:
    """The features as JSON gives them back: its arrays are lists."""
    values = asdict(features).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def negotiate(system: System) -> Report:
    """Ask the kernel and a vCPU, read-only: the VM that is made for it is gone afterwards.

    Raises `IoctlError`, or `LackingError` on an architecture that pyvmm can't drive.
    """
    arch = native()
    with system.create_vm() as vm:
        vcpu = vm.create_vcpu()
        arch.prepare(system, vm, vcpu)
        capabilities = ask(system, vm)
        features = arch.features(vcpu)
    return Report(
        kernel=platform.release(),
        arch=platform.machine(),
        api_version=system.api_version(),
        capabilities=capabilities,
        features=features,
        verdicts=judge({c.name: c for c in capabilities}, features),
    )
