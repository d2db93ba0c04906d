# SPDX-License-Identifier: GPL-2.0-only
"""All that a trace knows while it goes on, in one place."""

import time
from dataclasses import dataclass, field

from pyvmm.trace.explain import Explainer
from pyvmm.trace.inject import Rules
from pyvmm.trace.objects import Object, Objects
from pyvmm.trace.vms import TracedVm


@dataclass
class Known:
    """What is known, and what is wanted.

    Attributes:
        rules: what to answer in the kernel's place.
        detailed: decode arguments and exits; else only count, which costs a tracee less.
        vms: what is known of each VM, by its object.
        began: when, in nanoseconds of `time.perf_counter_ns`.
    """

    rules: Rules
    detailed: bool
    objects: Objects = field(default_factory=Objects)
    vms: dict[Object, TracedVm] = field(default_factory=dict)
    explainer: Explainer = field(default_factory=Explainer)
    began: int = field(default_factory=time.perf_counter_ns)

    def vm_of(self, target: Object | None, pid: int) -> TracedVm | None:
        """The VM that an object is, or belongs to; begun here where we came too late for it."""
        vm = target if target and target.kind == "vm" else target and target.vm
        if vm is None:
            return None
        if vm not in self.vms:
            self.vms[vm] = TracedVm(vm.label, pid)
        return self.vms[vm]

    def seconds(self, clock: int) -> float:
        """From the beginning to `clock`."""
        return (clock - self.began) / 1e9

    def close(self) -> None:
        """Let go of everything that is shared with the tracees."""
        self.objects.release()
        self.explainer.close()
