# SPDX-License-Identifier: GPL-2.0-only
"""Boots of a Linux guest, which reads an NVMe disk and powers off."""

import hashlib
import io
from collections.abc import Iterator

from pyvmm.lab.lab_devices import disk_contents
from pyvmm.linux.boot import BootOptions, boot
from tests.campaign.campaign import Campaign

_DISK = "0000:01:00.0"
_CPUS = (1, 2)  # tests.linux.matrix has up to 8


def _run(runs: range) -> Iterator[str]:
    digest = hashlib.md5(disk_contents()).hexdigest().encode()
    for number in runs:
        console = io.BytesIO()
        cpus = _CPUS[number % len(_CPUS)]
        result = boot(BootOptions(console, append="quiet", cpus=cpus, devices=[_DISK], timeout=600))
        if result.end.reason != "power-off" or digest not in console.getvalue():
            yield f"boot {number} with {cpus} vCPUs: {result.end}, {console.getvalue()!r}"


# test_boot.py is the short form. A batch has both numbers of vCPUs: the C library keeps the stacks
# of their threads.
CAMPAIGN = Campaign(
    runs=50, short=0, batch=2, limit=900, run=_run, lab=("--kernel", "lab", "--device", "disk")
)
