# SPDX-License-Identifier: GPL-2.0-only
"""Compare a cause that `pyvmm.why` named with the kernel's own path to the failure."""

from collections.abc import Collection, Iterator

from pyvmm.faults.report import FaultReport
from pyvmm.provenance import KernelPath, verdict
from pyvmm.uapi.kvm import KVM_RUN
from pyvmm.why import Evidence, Unseen, kvm_run, registration

_IPA_SHIFT = 12  # HPFAR_EL2 has the address of a 4 KiB page, whatever the page size


def disagreements(
    cause: str, path: KernelPath | None, report: FaultReport | None, left_out: Collection[str]
) -> Iterator[str]:
    """Yield each point in which kernel and condition disagree, as a clause.

    Without a path, they disagree unless the condition says that none can be seen. `report` is the
    fault, if it was one; `left_out` are the functions without a probe.
    """
    if path is None:
        if not isinstance(_evidence(cause, KVM_RUN.name), Unseen):
            yield "the kernel's path was not recorded"
        return
    evidence = _evidence(cause, path.ioctl)
    if evidence is None:
        yield f"{path.ioctl} has no condition {cause}"
    if not isinstance(evidence, Unseen):
        if cause not in (names := verdict(path)):
            yield f"the kernel's path fits {' or '.join(names) or 'no known condition'}"
        yield from (
            f"the kernel's path lacks {step}"
            for step in evidence or ()
            if not _has(path, step, left_out)
        )
    if report and path.fault:
        yield from _addresses(report, path)


def _evidence(cause: str, ioctl: str) -> Evidence | Unseen | None:
    conditions = kvm_run.CONDITIONS if ioctl == KVM_RUN.name else registration.CONDITIONS
    return next((each.evidence for each in conditions if each.name == cause), None)


def _has(path: KernelPath, step: str, left_out: Collection[str]) -> bool:
    """Return True if the path has one of the alternatives, or this kernel cannot show any."""
    alternatives = step.split(" or ")
    if any(map(path.shows, alternatives)):
        return True
    return all(each.split()[0] in left_out for each in alternatives)


def _addresses(report: FaultReport, path: KernelPath) -> Iterator[str]:
    fault = path.fault
    assert fault is not None
    if report.gpa is not None and report.gpa >> _IPA_SHIFT != fault.ipa >> _IPA_SHIFT:
        yield f"GPA {report.gpa:#x} is not on the page of the kernel's IPA {fault.ipa:#x}"
    if report.pc is not None and report.pc != fault.pc:
        yield f"PC {report.pc:#x} is not the kernel's {fault.pc:#x}"
