# SPDX-License-Identifier: GPL-2.0-only
"""A Linux guest from the start of the VMM to init and to power-off: ``boot``, compared with QEMU.

Both run in the emulated arm64 host, QEMU with ``-accel kvm``, with the same Image and initrd.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from pyvmm.linux import built_in_guest
from tests import qemu_vmm
from tests.bench._measure import Figure, medians

ROUNDS = 3
_INIT = b"pyvmm guest: init"
_APPEND = "console=ttyAMA0 panic=-1"
_LAB = [sys.executable, "-m", "pyvmm", "lab"]
_IN_LAB = ["--kernel", "lab", "--package", qemu_vmm.PACKAGE.name, "--"]


def main() -> Iterator[Figure]:
    if "PYVMM_LAB" in os.environ:
        yield from _in_lab()
        return
    command = [*_LAB, "shell", *_IN_LAB, "python3", "-m", "tests.bench", "--json", "boot"]
    done = subprocess.run(command, capture_output=True, check=True)
    for figure in json.loads(done.stdout)["figures"]:
        del figure["benchmark"]
        yield Figure(**figure)
    name = "lab run -- boot"
    yield Figure(name, medians({name: _lab_run}, ROUNDS)[name], "s", goal=10)


def _in_lab() -> Iterator[Figure]:
    image = built_in_guest.find_image()
    with tempfile.NamedTemporaryFile() as initrd:
        initrd.write(built_in_guest.make_initrd(image))
        initrd.flush()
        report = Path(f"{initrd.name}.json")
        pyvmm = [sys.executable, "-m", "pyvmm", "boot", "--report", str(report)]
        pyvmm += ["--image", str(image), "--initrd", initrd.name]
        qemu, environment = qemu_vmm.command()
        qemu += ["-machine", "virt,gic-version=3", "-cpu", "host", "-accel", "kvm", "-m", "256"]
        qemu += ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]
        qemu += ["-kernel", str(image), "-initrd", initrd.name, "-append", _APPEND]
        to_init: dict[str, list[float]] = {"pyvmm": [], "QEMU": []}
        contenders: dict[str, Callable[[], float]] = {
            "pyvmm": lambda: _boot(pyvmm, os.environ, to_init["pyvmm"]),
            "QEMU": lambda: _boot(qemu, environment, to_init["QEMU"]),
        }
        seconds = medians(contenders, ROUNDS)
        for name, times in to_init.items():
            yield Figure(f"{name} to init", median(times), "s")
            yield Figure(f"{name} to power-off", seconds[name], "s")
        document = json.loads(report.read_text())
        report.unlink()
        yield Figure("KVM_RUN to init", document["time_to_init"], "s", goal=3)
        yield Figure("exits to Python", sum(document["exits"].values()), goal=100)


def _boot(command: Sequence[str], environment: Mapping[str, str], to_init: list[float]) -> float:
    """Return the seconds until the guest has powered off; append those to init."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if _INIT in line:
                to_init.append(time.perf_counter() - start)
    assert process.returncode == 0
    return time.perf_counter() - start


def _lab_run() -> float:
    start = time.perf_counter()
    command = [*_LAB, "run", "--kernel", "lab", "--", "boot"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
