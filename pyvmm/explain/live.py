# SPDX-License-Identifier: GPL-2.0-only
"""Wait for the next ioctl that KVM fails in another VMM, and collect what is known of it.

Only the VMM's own process may read its vCPUs, so ftrace gives address, PC and errno.
"""

import errno as errnos
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pyvmm.errno_names import errno_number
from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.explain import conditions
from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.vma import Vma, vmas
from pyvmm.provenance import KernelPath, Recorder, verdict
from pyvmm.provenance.recorder import threads_of
from pyvmm.uapi.kvm import KVM_RUN
from pyvmm.why import AccessFacts, Finding, Host, Slot, judge, kvm_run, registration, surest_first

_PAUSE = 0.1  # seconds between looks at the recorded events
_LOGGED_HVA = re.compile(r"Failed to find VMA for hva (0x[0-9a-f]+)")


@dataclass(frozen=True)
class LiveFailure:
    """A failed ioctl of another VMM.

    Attributes:
        thread: the name of the thread that made the ioctl.
        path: the kernel's path to the failure.
        hva: the host address behind the access, or None if it is not known.
        slot: the memslot of the access, or the requested one; its number is -1 if only address
            and HVA of the access are known. None if nothing is known.
        vma: the VMA at `hva`, or None.
        verdict: the names of the conditions that the kernel's path fits.
        findings: the judgement of each condition on the facts, the surest first.
    """

    pid: int
    command: str
    thread: str
    path: KernelPath
    hva: int | None
    slot: Slot | None
    vma: Vma | None
    verdict: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def causes(self) -> tuple[tuple[str, str], ...]:
        """Return name and sentence of each condition in `verdict` that the facts fit best."""
        run = self.path.ioctl == KVM_RUN.name
        conditions = kvm_run.CONDITIONS if run else registration.CONDITIONS
        rules = {each.name: each.rule for each in conditions}
        found = {each.name: each for each in self.findings}
        ranks = {name: _rank(found.get(name)) for name in self.verdict}
        best = [name for name in self.verdict if ranks[name] == min(ranks.values())]
        return tuple(
            (name, found[name].why if ranks[name] < _UNDECIDED else rules.get(name, ""))
            for name in best
        )


_UNDECIDED = 2


def _rank(finding: Finding | None) -> int:
    """Return how well the facts fit: known, inferred, undecided, excluded.

    An excluded condition may still be the cause: the VMM may have fixed it since.
    """
    if finding is None or finding.mark == "impossible":
        return 3
    if finding.needs:
        return _UNDECIDED
    return 0 if finding.mark == "known" else 1


def record(pid: int) -> Recorder:
    """Start to record the threads of process `pid`, and the ones that it creates.

    Raises `UsageError` if there is no such process, and what `Recorder` raises.
    """
    try:
        threads = threads_of(pid)
    except FileNotFoundError:
        raise UsageError(f"there is no process {pid}") from None
    return Recorder(threads)


def wait(
    pid: int, recorder: Recorder, timeout: float | None, progress: Callable[[], None]
) -> KernelPath:
    """Return the path of the process's next failure; call `progress` now and then.

    Raises `PyvmmError` if the process ends, or does not fail in `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        ended = not Path("/proc", str(pid)).exists()
        if path := next((each for each in recorder.paths() if each.failed), None):
            return path
        if ended:
            raise PyvmmError(f"process {pid} ended, and KVM failed none of its ioctls")
        if deadline is not None and time.monotonic() > deadline:
            raise PyvmmError(f"KVM failed no ioctl of process {pid} in {timeout:g} s")
        recorder.clear()
        progress()
        time.sleep(_PAUSE)


def explain(pid: int, path: KernelPath, host: Host, slots: Sequence[Slot] | None) -> LiveFailure:
    """Explain a failure; `slots` are the VMM's memslots, or None if they are not known."""
    hva = _hva(path)
    slot = _slot(path, hva, slots)
    if hva is None and slot and path.fault:
        hva = slot.hva_of(path.fault.gpa)
    if path.ioctl == KVM_RUN.name:
        findings = _judge_access(path, host, slot, pid)
    else:
        assert slot is not None
        findings = conditions.of_registration(host, slot, _errno(path), slots, pid)
    return LiveFailure(
        pid,
        _name(Path("/proc", str(pid))),
        _name(Path("/proc", str(pid), "task", str(path.thread))),
        path,
        hva,
        slot,
        _vma(hva, pid),
        verdict(path),
        tuple(findings),
    )


def _errno(path: KernelPath) -> int:
    return errno_number(path.result[1:]) or 0 if path.result.startswith("-") else 0


def _hva(path: KernelPath) -> int | None:
    """Return the HVA of the access: what KVM faulted in, or named in its log."""
    if path.hva is not None:
        return path.hva
    logged = (_LOGGED_HVA.search(line) for line in path.log)
    return next((int(match[1], 16) for match in logged if match), None)


def _slot(path: KernelPath, hva: int | None, slots: Sequence[Slot] | None) -> Slot | None:
    if slot := path.request:
        return Slot(slot.slot, slot.gpa, slot.size, slot.hva, slot.flags)
    if path.fault is None:
        return None
    gpa = path.fault.gpa
    if slots is not None:
        return next((slot for slot in slots if slot.gpa <= gpa < slot.end), None)
    if hva is None:
        return None
    return Slot(-1, gpa & -PAGE_SIZE, PAGE_SIZE, hva & -PAGE_SIZE)


def _judge_access(path: KernelPath, host: Host, slot: Slot | None, pid: int) -> list[Finding]:
    facts = AccessFacts(
        errno=_errno(path),
        host=host,
        exit="run_failure" if path.result.startswith("-") else _kind(path.result),
        slot_known=slot is not None,
        known_slot=slot,
        pid=pid,
    )
    if path.fault:
        facts = replace(facts, known_gpa=path.fault.gpa, known_access=path.fault.access)
    return surest_first(judge(kvm_run.CONDITIONS, facts))


def _kind(exit: str) -> str:
    return exit.removeprefix("KVM_EXIT_").lower()


def _vma(hva: int | None, pid: int) -> Vma | None:
    if hva is None:
        return None
    try:
        return next(iter(vmas(hva & -PAGE_SIZE, PAGE_SIZE, pid)), None)
    except OSError as error:
        if error.errno in (errnos.ENOENT, errnos.ESRCH):  # the process has ended
            return None
        raise LackingError(f"permission denied for process {pid}: run as root") from None


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "ended"
