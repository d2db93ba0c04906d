# SPDX-License-Identifier: GPL-2.0-only
"""The capability report: every capability, the CPU's features, and verdicts."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.arch.native import native
from pyvmm.caps.verdicts import Verdict, verdicts_for
from pyvmm.errors import SkippedError
from pyvmm.kvm.capabilities import Capability, check_all
from pyvmm.kvm.system import System

SCHEMA = "pyvmm.caps/1"


@dataclass(frozen=True)
class CapsReport:
    """The capabilities of one host.

    Attributes:
        kernel: the release, as ``uname -r`` prints it.
        arch: the machine, as ``uname -m`` prints it.
        api_version: the result of ``KVM_GET_API_VERSION``.
        capabilities: every ``KVM_CAP_*`` that the headers name, with the kernel's answers.
        features: the CPU features that KVM's memory handling depends on; None except on arm64.
        verdicts: what is supported, and why.
    """

    kernel: str
    arch: str
    api_version: int
    capabilities: list[Capability]
    features: CpuFeatures | None
    verdicts: list[Verdict]

    def capability(self, name: str) -> Capability:
        """Return the capability of this C name (``KVM_CAP_…``). Raises `KeyError`."""
        return {capability.name: capability for capability in self.capabilities}[name]

    def verdict(self, name: str) -> Verdict:
        """Return the verdict of this name. Raises `KeyError`."""
        return {verdict.name: verdict for verdict in self.verdicts}[name]

    @property
    def cpu(self) -> CpuFeatures:
        """Return the CPU's features. Raises `SkippedError` except on arm64."""
        if self.features is None:
            raise SkippedError(f"needs an arm64 CPU: no CPU features are read on {self.arch}")
        return self.features

    def to_json(self) -> dict[str, Any]:
        """Return the report as ``pyvmm caps --json`` prints it."""
        return {
            "schema": SCHEMA,
            "host": {"kernel": self.kernel, "arch": self.arch},
            "kvm": {"api_version": self.api_version},
            "capabilities": [asdict(capability) for capability in self.capabilities],
            "features": _plain(self.features) if self.features else None,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }


def _plain(features: CpuFeatures) -> dict[str, Any]:
    """Return the features as JSON reads them back, with lists for tuples."""
    values = asdict(features).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def negotiate(system: System) -> CapsReport:
    """Query the kernel and a vCPU of a temporary VM. Changes nothing.

    Raises `IoctlError`, or `LackingError` on an architecture that pyvmm does not support.
    """
    arch = native()
    with system.create_vm() as vm:
        vcpu = vm.create_vcpu()
        arch.prepare(system, vm, vcpu)
        capabilities = check_all(system, vm)
        features = arch.features(vcpu)
    return CapsReport(
        kernel=platform.release(),
        arch=platform.machine(),
        api_version=system.api_version(),
        capabilities=capabilities,
        features=features,
        verdicts=verdicts_for({c.name: c for c in capabilities}, features),
    )
