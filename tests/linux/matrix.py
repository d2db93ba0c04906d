# SPDX-License-Identifier: GPL-2.0-only
"""Guests of several kernels on emulated hosts of several kernels, which read an NVMe disk.

    python -m tests.linux.matrix [--host KERNEL]… [--guest KERNEL]…

Prints a line per boot. The exit status is 1 if a guest did not read what the disk has. Debian's
kernels have no iommufd, so those modes are skipped there.
"""

import argparse
import hashlib
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError
from pyvmm.lab import host, kernel, kernel_build, lab_devices, qemu
from pyvmm.lab.apt import no_progress
from pyvmm.linux.boot import BootOptions, boot
from pyvmm.vfio.iommu_modes import AUTO, MODES

HOSTS = ("lab", "debian:6.1", "debian:6.12", "debian:7.2", "debian:7.2-16k")
GUESTS = ("lab", "debian:6.12", "debian:7.2")
DISK = "0000:01:00.0"
_INTX = "pci=nomsi"
# IOMMU mode, text for the kernel command line, vCPUs
_FEW = ((AUTO, "", 4), (AUTO, _INTX, 8))
_ALL = (
    *zip(MODES, [""] * len(MODES), (1, 4, 8, 1, 8), strict=True),
    *((AUTO, _INTX, cpus) for cpus in (1, 4, 8)),
)
_LIMIT = 600.0  # seconds for a guest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.linux.matrix", description=__doc__)
    parser.add_argument("--host", action="append", metavar="KERNEL", help=f"of {', '.join(HOSTS)}")
    parser.add_argument("--guest", action="append", metavar="KERNEL", help=", ".join(GUESTS))
    options = parser.parse_args()
    guests: list[str] = options.guest or list(GUESTS)
    if "PYVMM_LAB" in os.environ:
        outcomes = list(_boots(guests))
        return int(not all(outcomes))
    directories = [
        kernel_build.find_or_build(name, no_progress).image.parent.name for name in guests
    ]
    command = ["python3", "-m", "tests.linux.matrix"]
    command += [word for name in directories for word in ("--guest", name)]
    machine = qemu.EmulatedMachine(memory=3 << 30, devices=tuple(lab_devices.lookup(["disk"])))
    failed = False
    for name in options.host or HOSTS:
        print(f"host {name}", flush=True)
        prepared = host.prepare_by_name(qemu.find(no_progress), name, machine, no_progress)
        with prepared.boot(
            command,
            stdout=sys.stdout.buffer,
            stderr=sys.stderr.buffer,
            directory=kernel.store(),
        ) as running:
            failed |= bool(running.wait())
    return int(failed)


def _boots(guests: list[str]) -> Iterator[bool]:
    """Boot each guest in the current directory; yield True for each that reads the disk."""
    digest = hashlib.md5(lab_devices.disk_contents()).hexdigest()
    for number, guest in enumerate(guests):
        for mode, append, cpus in _FEW if number else _ALL:
            console = io.BytesIO()
            start = time.monotonic()
            try:
                result = boot(
                    BootOptions(
                        console,
                        image=Path(guest, "Image"),
                        append=f"quiet {append}",
                        cpus=cpus,
                        ram=512 << 20,
                        devices=[DISK],
                        iommu_mode=mode,
                        timeout=_LIMIT,
                    )
                )
            except PyvmmError as error:
                skipped = isinstance(error, LackingError) and mode != AUTO
                succeeded, outcome = skipped, f"{'skipped' if skipped else 'failed'}: {error}"
            else:
                read = digest.encode() in console.getvalue()
                succeeded = read and result.end.reason == "power-off" and not result.faults.counts
                outcome = "ok" if succeeded else f"failed: {result.end}, {console.getvalue()!r}"
                outcome += f", interrupts {dict(result.interrupts[DISK])}"
            seconds = time.monotonic() - start
            what = f"{mode}, {append or 'MSI-X'}, {cpus} vCPUs: {outcome}, {seconds:.0f} s"
            print(f"  guest {guest}, {what}", flush=True)
            yield succeeded


if __name__ == "__main__":
    sys.exit(main())
