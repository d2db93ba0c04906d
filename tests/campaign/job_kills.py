# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm --vfio`` killed at random points: the device and the host are as before."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pyvmm.errors import PyvmmError
from pyvmm.machine import RAM_BASE
from pyvmm.memory import Mapping
from pyvmm.provoke.testbed import find_function
from pyvmm.vfio.iommu_modes import AUTO, MODES, open_device
from pyvmm.vfio.sysfs import IOMMU_GROUPS, PCI, PciFunction
from tests.campaign.campaign import Campaign
from tests.campaign.kill import (
    PATIENCE,
    PYVMM,
    SIGNALS,
    adopt_orphans,
    names,
    private_tmpdir,
    start_and_kill,
)

_LONGEST = 6  # seconds
_DRIVER = "vfio-pci"
_RAM = 4 << 20  # bytes that the job maps for the device's DMA
# Pages, half of that RAM: this process allocates too, and the kernel counts per CPU.
_TOLERANCE = 512


@dataclass(frozen=True)
class HostState:
    """What a run may not change.

    Attributes:
        driver: the function's driver and driver_override.
        groups: the IOMMU groups, with their devices, domain types and reserved regions.
        nodes: the device nodes below /dev/vfio.
        descriptors: the descriptors of vfio, iommufd and KVM that processes have.
        processes: the command lines of all processes but kernel threads.
        pinned: pages pinned by pin_user_pages(), which vfio and iommufd do for DMA mappings.
        page_tables: pages of IOMMU page tables and of stage 2.
    """

    driver: tuple[str | None, str | None]
    groups: dict[str, str]
    nodes: list[str]
    descriptors: list[str]
    processes: list[str]
    pinned: int
    page_tables: int

    @classmethod
    def read(cls, function: PciFunction) -> "HostState":
        counters = _vmstat()
        return cls(
            driver=(function.driver, function.driver_override),
            groups=_groups(),
            nodes=sorted(str(path) for path in Path("/dev/vfio").rglob("*")),
            descriptors=sorted(_descriptors()),
            processes=sorted(_processes()),
            pinned=counters["nr_foll_pin_acquired"] - counters["nr_foll_pin_released"],
            page_tables=counters["nr_sec_page_table_pages"] + counters.get("nr_iommu_pages", 0),
        )

    def changes(self, after: "HostState") -> list[str]:
        """Return a text for each difference. Fewer pages are none: an earlier run's went late."""
        was, now = asdict(self), asdict(after)
        now["pinned"] = max(was["pinned"], now["pinned"] - _TOLERANCE)
        return [
            f"{name} was {value}, is {now[name]}"
            for name, value in was.items()
            if (now[name] > value if isinstance(value, int) else now[name] != value)
        ]


def _vmstat() -> dict[str, int]:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def _groups() -> dict[str, str]:
    found = {}
    for group in IOMMU_GROUPS.iterdir():
        found[f"{group.name}/devices"] = " ".join(sorted(names(group / "devices")))
        for attribute in ("type", "reserved_regions"):
            found[f"{group.name}/{attribute}"] = (group / attribute).read_text()
    return found


def _descriptors() -> Iterator[str]:
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except FileNotFoundError:  # closed, or the process ended
            continue
        if any(word in target for word in ("vfio", "iommu", "kvm")):
            yield f"{link}: {target}"


def _processes() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if command := (process / "cmdline").read_bytes():
                yield f"{process.name} {command!r}"
        except (FileNotFoundError, ProcessLookupError):
            continue


def _settled_changes(before: HostState, function: PciFunction) -> list[str]:
    """Return the differences that stay: the kernel releases some of a process after its end."""
    end = time.monotonic() + PATIENCE
    while changes := before.changes(HostState.read(function)):
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return changes


def _map_again(function: PciFunction, mode: str) -> None:
    """Open the device, and map new memory for its DMA at the IOVA that the job used."""
    with open_device(function.bdf, mode) as device, Mapping.anonymous(_RAM) as memory:
        device.dma.map(RAM_BASE, memory)


def _run(runs: range) -> Iterator[str]:
    adopt_orphans()
    function = find_function(_DRIVER)
    _map_again(function, AUTO)
    with private_tmpdir() as (temporary, environment):
        memory = _used_memory()
        for number in runs:
            chance = random.Random(number)
            sent, bind = chance.choice(SIGNALS), chance.random() < 0.5
            mode = chance.choice((AUTO, *MODES))
            what = f"kill {number} ({sent.name}, --iommu-mode {mode}{', --bind' * bind})"
            _set_driver(function, None if bind else _DRIVER)
            before, files = HostState.read(function), names(temporary)
            command = [*PYVMM, "--vfio", str(function), "--iommu-mode", mode, *["--bind"] * bind]
            failures = list(start_and_kill(command, sent, chance, _LONGEST, environment))
            failures += _settled_changes(before, function)
            left = names(temporary) - files
            if left and sent != signal.SIGKILL:  # the next run removes those of SIGKILL
                failures.append(f"left {left} in TMPDIR")
            _set_driver(function, _DRIVER)
            try:
                _map_again(function, mode)
            except (OSError, PyvmmError) as error:
                failures.append(f"a new DMA mapping fails: {error}")
            yield from (f"{what}: {text}" for text in failures)
        done = subprocess.run(
            [*PYVMM, "--vfio", str(function)], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            yield f"after {runs}: the next run fails: {done.stderr}"
        if left := names(temporary):
            yield f"after {runs}: the next run left {left} in TMPDIR"
        if (now := _used_memory()) > memory + _TOLERANCE:
            yield f"after {runs}: {now} pages are in use, {memory} were"


def _used_memory() -> int:
    """Return the pages of anonymous and shared memory of all processes and of tmpfs."""
    counters = _vmstat()
    return counters["nr_anon_pages"] + counters["nr_shmem"]


def _set_driver(function: PciFunction, driver: str | None) -> None:
    """Bind `function` to `driver`, or to none."""
    if function.driver == driver:
        return
    if function.driver:
        (function.path / "driver/unbind").write_text(str(function))
    (function.path / "driver_override").write_text(f"{driver or ''}\n")
    if driver:
        (PCI / "drivers_probe").write_text(str(function))


CAMPAIGN = Campaign(
    runs=400,
    short=4,
    batch=20,
    limit=3600,
    run=_run,
    lab=("--kernel", "lab", "--device", "bochs"),
)
