# SPDX-License-Identifier: GPL-2.0-only
"""Guests that run Linux, with the lab's disk and its own kernel."""

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyvmm import libc
from pyvmm.cpio import CpioArchive
from pyvmm.errors import LackingError, SkippedError, UsageError
from pyvmm.faults import auto
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.kvm import System
from pyvmm.lab.lab_devices import disk_contents
from pyvmm.linux import built_in_guest
from pyvmm.linux.board import RAM_BASE
from pyvmm.linux.boot import BootOptions, BootResult, boot
from pyvmm.linux.linux_guest import LinuxGuest
from pyvmm.memory import PROT_NONE
from tests.devices import Find
from tests.linux import guest_programs
from tests.process import in_child, open_fds

pytestmark = pytest.mark.needs_arch("aarch64")

FLAG = 0x4F00_0000  # in RAM, above what mem=192M lets the kernel use
SCRIPT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
"""
READ_AND_REBOOT = f"""
for n in $(seq 50); do [ -e /dev/nvme0n1 ] && break; usleep 100000; done
md5sum </dev/nvme0n1
[ $(devmem {FLAG:#x} 32) = 0x00000000 ] || poweroff -f
devmem {FLAG:#x} 32 1
reboot -f
"""
CHECK_BAR4 = """
mount -t sysfs sys /sys
cd /sys/bus/pci/devices/0000:00:01.0
echo 1 >enable
/check_bar resource4 && echo BAR4 is right
"""

Ended = tuple[BootResult, str]
Start = Callable[..., Ended]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that boots a guest and returns its result and its console.

    `init` is the commands of the guest's first process, instead of the built-in ones.
    """
    if not Path("/run/Image").exists():
        pytest.skip("needs the image of the running kernel: pytest --lab")

    def run(init: str = "", append: str = "", **options: Any) -> Ended:
        if init:
            initrd = built_in_guest.make_initrd(Path("/run/Image"), (SCRIPT + init).encode())
            programs = CpioArchive()
            programs.file("check_bar", guest_programs.check_bar(), executable=True)
            programs.file("write_junk", guest_programs.write_junk(), executable=True)
            options["initrd"] = tmp_path / "initrd"
            options["initrd"].write_bytes(initrd + programs.to_bytes())
        console = options.pop("console", None) or io.BytesIO()
        fds = open_fds()
        result = boot(BootOptions(console, append=f"quiet {append}", **options))
        # The sandbox keeps descriptors of the files that it allows.
        assert open_fds() == fds or options.get("sandbox")
        return result, console.getvalue().decode(errors="replace").replace("\r", "")

    return run


NETWORK = """
mount -t proc proc /proc
mount -t sysfs sys /sys
[ ! -e /modules/order ] || while read -r module; do insmod /modules/$module; done </modules/order
ifconfig eth0 10.0.2.15 up
for n in $(seq 100); do [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && break; usleep 100000; done
ping -c 3 -s 1400 10.0.2.2
cd /dev && tftp -g -b 1024 -r disk.img 10.0.2.2
md5sum </dev/disk.img
poweroff -f
"""


def assert_reads_disk(ended: Ended) -> None:
    result, console = ended
    digest = hashlib.md5(disk_contents()).hexdigest()
    assert f"pyvmm guest: /dev/nvme0n1 md5 {digest}\n" in console
    assert (result.end.reason, result.panic) == ("power-off", None)
    assert not result.faults.counts


def test_power_off_without_devices(start: Start) -> None:
    result, console = start()
    assert "pyvmm guest: init at " in console
    assert (result.end.reason, result.boots) == ("power-off", 1)
    assert result.time_to_init
    assert sum(result.exits.values()) <= 100
    assert result.interrupts == {}


@pytest.mark.needs_device("disk")
def test_every_iommu_mode(start: Start, find: Find, iommu_mode: str) -> None:
    device = str(find("disk"))
    ended = start(devices=[device], iommu_mode=iommu_mode)
    assert_reads_disk(ended)
    assert ended[0].interrupts[device]["MSI-X"] > 10


@pytest.mark.needs_device("disk")
def test_several_cpus(start: Start, find: Find) -> None:
    ended = start(devices=[str(find("disk"))], cpus=4)
    assert_reads_disk(ended)
    assert " s on 4 CPUs" in ended[1]


@pytest.mark.needs_device("disk")
def test_intx(start: Start, find: Find) -> None:
    device = str(find("disk"))
    ended = start(devices=[device], append="pci=nomsi")
    assert_reads_disk(ended)
    assert ended[0].interrupts[device]["INTx"] > 10
    assert "MSI-X" not in ended[0].interrupts[device]


@pytest.mark.needs_device("igb")
@pytest.mark.parametrize("append", ["", "pci=nomsi"], ids=["MSI-X", "INTx"])
def test_network(start: Start, find: Find, append: str) -> None:
    """A file arrives by TFTP: its blocks by DMA through the SMMU, one interrupt or more each."""
    device = find("igb")
    if not Path("/sys/bus/pci/drivers/igb").exists():
        pytest.skip("this kernel has no igb driver: pytest --lab --lab-kernel debian:7.2")
    result, console = start(NETWORK, append, devices=[str(device)], cpus=2)
    assert "3 packets transmitted, 3 packets received" in console
    assert hashlib.md5(disk_contents()).hexdigest() in console
    assert result.interrupts[str(device)]["INTx" if append else "MSI-X"] > 1000
    assert not result.faults.counts


@pytest.mark.needs_device("disk")
def test_a_guest_that_writes_junk(start: Start, find: Find) -> None:
    """5,000 writes to the BAR with the MSI-X table, and 5,000 to config space."""
    result, console = start(
        """
        mount -t sysfs sys /sys
        cd /sys/bus/pci/devices/0000:00:01.0
        echo 0000:00:01.0 >driver/unbind
        echo 1 >enable
        /write_junk resource0 && /write_junk /dev/mem ECAM && echo wrote junk
        poweroff -f
        """,
        devices=[str(find("disk"))],
    )
    assert "wrote junk\n" in console
    assert result.end.reason == "power-off"
    assert result.accesses["PCI config space", "write"] > 5000


@pytest.mark.needs_device("grace")
def test_cacheable_device_memory(start: Start, find: Find) -> None:
    device = str(find("grace"))
    result, console = start(CHECK_BAR4 + "poweroff -f", devices=[device])
    assert "BAR4 is right\n" in console
    [slot] = [slot for _, slot in result.slots if slot.part.region == "BAR4"]
    exits = result.accesses[f"{device} BAR4", "write"], result.accesses[f"{device} BAR4", "read"]
    if slot.outcome == "registered":
        assert exits == (0, 0)
        assert not result.faults.counts
    else:
        assert slot.cause == "cacheable-pfnmap-unsupported"
        # A pair of registers is an access without a syndrome; pyvmm emulates the instruction.
        assert exits == (256, 256)
        assert {record.fix for record in result.faults.records} == {Fix.EMULATE}


@pytest.mark.needs_device("grace")
def test_flipped_device_memory(start: Start, find: Find) -> None:
    """The guest sizes the BAR again after its write, which must still be there."""
    script = f"""
        {CHECK_BAR4}
        echo 1 >remove
        echo 1 >/sys/bus/pci/rescan
        cd /sys/bus/pci/devices/0000:00:01.0
        echo 1 >enable
        echo word $(devmem $(($(sed -n 5p resource | cut -d" " -f1) + 512)) 64)
        poweroff -f
        """
    options = {
        "devices": [str(find("grace"))],
        "flip": frozenset({"BAR4"}),
        "on_fault": always(Fix.REPLAY),
        "cpus": 2,
        "sandbox": True,
    }

    def run() -> str:
        result, console = start(script, **options)
        assert "BAR4 is right\n" in console
        assert "word 0x0000000000000200\n" in console
        [slot] = [slot for _, slot in result.slots if slot.part.region == "BAR4"]
        assert slot.outcome == "registered"
        assert {record.outcome for record in result.faults.records} <= {"resolved"}
        return str(dict(result.faults.counts))

    # None on a CPU with FWB and DIC, else one for each page and once more after the sizing.
    assert in_child(run) in ("{}", "{'cacheable-pfnmap-unsupported': 17}")


@pytest.mark.needs_device("bochs")
def test_a_ram_bar_that_is_not_cacheable_or_absent(start: Start, find: Find) -> None:
    device = str(find("bochs"))
    with pytest.raises(UsageError, match=f"--ram-bar: {device} has no memory BAR4"):
        start(ram_bars=[f"{device}=BAR4"])
    with pytest.raises(UsageError, match="--ram-bar 0: write BDF=BAR, such as"):
        start(ram_bars=["0"])
    with pytest.raises(UsageError, match=f"{device} is given twice"):
        start(devices=[device], ram_bars=[f"{device}=BAR0"])


@pytest.mark.needs_device("grace")
def test_device_memory_as_ram(start: Start, find: Find) -> None:
    """The file is larger than the rest of RAM."""
    line = b"pyvmm\n"
    size = 9 * len(line) << 20
    options = {"ram_bars": [f"{find('grace')}=bar4"], "ram": 48 << 20, "cpus": 2}
    with System.open() as system, system.create_vm() as vm:
        rejected = vm.host.rejects_cacheable_pfnmap
    if rejected:
        with pytest.raises(SkippedError, match=r"BAR4 cannot be RAM of the guest: .* no DIC"):
            start(**options)
        return
    result, console = start(
        f"""
        mount -t proc proc /proc
        mkdir /tmp
        mount -t tmpfs -o size=90% tmpfs /tmp
        yes pyvmm | head -c {size} >/tmp/file
        md5sum </tmp/file
        grep MemTotal /proc/meminfo
        poweroff -f
        """,
        **options,
    )
    assert hashlib.md5(line * (size // len(line))).hexdigest() in console
    total = re.search(r"MemTotal: +(\d+) kB", console)
    assert total
    assert int(total[1]) > 512 << 10  # the BAR; without it, less than 48 MiB
    assert (result.end.reason, dict(result.faults.counts)) == ("power-off", {})


@pytest.mark.needs_device("grace")
@pytest.mark.needs_device("disk")
@pytest.mark.needs_feature("fwb", "dic")
def test_dma_to_device_memory_that_is_ram(start: Start, find: Find) -> None:
    """Both address spaces map the BAR, if the driver can: nvgrace has no dma-bufs."""
    options = {"devices": [str(find("disk"))], "ram_bars": [f"{find('grace')}=BAR4"]}
    assert_reads_disk(start(**options, iommu_mode="vfio_type1v2_iommu"))
    with pytest.raises(LackingError, match=r"cannot reach .* BAR4 in IOMMU mode iommufd, so"):
        start(**options, iommu_mode="iommufd")


class Breaker(io.BytesIO):
    """A console that makes the guest's RAM inaccessible when the guest prints."""

    guest: LinuxGuest | None = None

    def write(self, data: Any) -> int:
        slot = self.guest and self.guest.vm.memslots.at(RAM_BASE)
        if slot:
            libc.mprotect(slot.hva, slot.size, PROT_NONE)
        return super().write(data)


def test_faults_have_symbols(start: Start) -> None:
    """What prints is the kernel's UART driver, so that some fault is in the kernel."""
    console = Breaker()

    def break_ram(guest: LinuxGuest) -> None:
        console.guest = guest

    result, printed = start(console=console, started=break_ram, cpus=2)
    assert "pyvmm guest: init at " in printed
    assert result.end.reason == "power-off"
    assert set(result.faults.counts) == {"hva-no-access"}
    assert {record.outcome for record in result.faults.records} == {"resolved"}
    assert any(re.fullmatch(r"\w+\+0x[0-9a-f]+", name) for name in result.symbols.values())


@pytest.mark.needs_device("bochs")
def test_regions_that_no_device_has(start: Start, find: Find) -> None:
    device = str(find("bochs"))
    with pytest.raises(UsageError, match="--flip: no device has a region BAR9 that can be mapped"):
        start(devices=[device], flip=frozenset({"BAR9"}))
    with pytest.raises(UsageError, match="--on-fault: no device has a region BAR9"):
        start(devices=[device], on_fault_in={"BAR9": auto})


def test_console_without_the_ring(start: Start) -> None:
    result, console = start(ring=False)
    assert "pyvmm guest: init at " in console
    assert result.accesses["UART", "write"] >= len(console)


def test_console_input(start: Start) -> None:
    """Input until the guest ends: Linux drops what the UART has before it opens it."""
    source, sink = os.pipe()
    ended = threading.Event()

    def type_lines() -> None:
        while not ended.wait(0.2):
            os.write(sink, b"hello\n")

    typist = threading.Thread(target=type_lines)
    with os.fdopen(source), os.fdopen(sink, "w"):
        typist.start()
        try:
            script = "until [ x$line = xhello ]; do read line; done; echo got $line; poweroff -f"
            _, console = start(script, source=source, timeout=60)
        finally:
            ended.set()
            typist.join()
    assert "got hello\n" in console
    assert "^@" not in console  # the echo of a zero that nobody typed


def test_reboot(start: Start) -> None:
    result, console = start(
        f"""
        echo flag $(devmem {FLAG:#x} 32)
        [ $(devmem {FLAG:#x} 32) = 0x00000000 ] || poweroff -f
        devmem {FLAG:#x} 32 1
        reboot -f
        """,
        append="mem=192M",
        cpus=2,
    )
    assert re.findall(r"flag (\w+)", console) == ["0x00000000", "0x00000001"]
    assert (result.end.reason, result.boots) == ("power-off", 2)


@pytest.mark.needs_device("disk")
def test_reboot_with_a_device(start: Start, find: Find) -> None:
    devices = [str(find("disk"))]
    result, console = start(READ_AND_REBOOT, "mem=192M", devices=devices)
    assert console.count(hashlib.md5(disk_contents()).hexdigest()) == 2
    assert (result.end.reason, result.boots) == ("power-off", 2)


@pytest.mark.needs_device("disk")
@pytest.mark.parametrize("append", ["", "pci=nomsi"], ids=["MSI-X", "INTx"])
def test_reboot_in_the_sandbox(start: Start, find: Find, append: str) -> None:
    devices = [str(find("disk"))]

    def run() -> str:
        result, console = start(
            READ_AND_REBOOT, f"mem=192M {append}", devices=devices, cpus=2, sandbox=True
        )
        sums = console.count(hashlib.md5(disk_contents()).hexdigest())
        return f"{result.end.reason}, {result.boots} boots, {sums} sums, {result.faults.records}"

    assert in_child(run) == "power-off, 2 boots, 2 sums, []"


def test_panic(start: Start) -> None:
    result, _ = start("exit 3")
    assert (result.end.reason, result.boots) == ("panic", 1)
    assert result.panic
    assert result.panic.startswith("Attempted to kill init! exitcode=0x00000300")


def test_a_hung_guest_is_stopped(start: Start) -> None:
    for seconds in (8, 16, 32, 64):  # until it has booted
        result, console = start("echo hung; while :; do :; done", timeout=seconds, cpus=2)
        if "hung\n" in console:
            break
    assert "hung\n" in console
    assert (result.end.reason, result.end.last_exit) == ("timeout", None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ram": 8 << 20}, r"need .* of RAM and the guest has 8 MiB .*: pass --ram \d+M"),
        ({"cpus": 0}, "--cpus 0: this host's guests have 1 to "),
        ({"cpus": 1000}, "--cpus 1000: this host's guests have 1 to "),
        ({"ram": 1 << 52}, "--ram: this host's guests have at most .*G of memory"),
        ({"image": Path(__file__)}, "test_boot.py is no complete arm64 kernel"),
        ({"image": Path("/absent")}, "cannot read /absent: No such file"),
        ({"initrd": Path("/absent")}, "cannot read /absent: No such file"),
        ({"image": Path("/dev/zero")}, "cannot read /dev/zero: it is larger than 256 MiB"),
        ({"initrd": Path("/dev/zero"), "ram": 16 << 20}, "/dev/zero: it is larger than 16 MiB"),
    ],
)
def test_wrong_options(start: Start, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        start(**options)
