# SPDX-License-Identifier: GPL-2.0-only
"""The examples, run unchanged, each on the device that it needs."""

import contextlib
import io
import platform
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import Status
from pyvmm.testing.needs import find_devices
from tests.process import as_nobody

EXAMPLES = Path(__file__).parents[1] / "examples"
OUTPUT = EXAMPLES.parent / "docs/output"
NUMBER = re.compile(r"0x[0-9a-f]+|\d+")

# Regular expressions that match parts of the output, in this order.
ON_A_DEVICE = [
    ("bar_memslot", "bochs", ["is slot 1", "100000 guest loads", "the only exit: SystemEvent"]),
    ("dma", "edu", ["is IOVA 0x100000", "the guest reads 0xfeeddead", "never mapped", "unchanged"]),
    ("msix", "nvme", ["routed to SPI 5", "pending False", "pending True", "serial is 'lab'"]),
    (
        "thread_2023_12_05_reads_before_a_reset",
        "bochs",
        [
            *("stage 2 of the BAR: Normal-NC", "reads the device: 0xfeedface", "resets"),
            *("stage 2 of the BAR: unmapped", "stage 2 of the BAR: Normal-NC"),
            "stage 2 of the RTC: Device-nGnRE",
        ],
    ),
    (
        "thread_2023_12_06_vmm_cannot_know",
        "bochs",
        [
            *("normal-nc .* OK .* exits 0", "device-nGnRE .* ABORT .* exits 0"),
            *["stage 2 is Normal-NC"] * 2,
            *("device-nGnRE .* ABORT .* exits 0", "normal-nc .* OK .* exits 0"),
            *["stage 2 is Normal-NC"] * 2,
            "memslots are unchanged",
        ],
    ),
    (
        "thread_2023_12_12_normal_nc_for_vfio_pci",
        "bochs",
        [
            *("vfio-pci BAR0 .* Normal-NC", "resource0 .* Device-nGnRE"),
            *("resource0_wc .* Device-nGnRE", "anonymous .* Normal-WB"),
        ],
    ),
    (
        "thread_2024_02_writel_and_wc_copies",
        "bochs",
        [
            *("stage 2 is Normal-NC", "device-nGnRE unaligned copy a fault in the guest"),
            *("normal-nc .* unaligned copy ok", "normal-wb .* unaligned copy ok"),
            *("stage 2 is Device-nGnRE", "device-nGnRE unaligned copy a fault in the guest"),
            *("normal-nc .* unaligned copy RunFailure", "normal-wb .* unaligned copy RunFailure"),
        ],
    ),
]
# The output on a CPU with FWB and DIC, and on one without.
SUPPORTED = [
    "PFNMAP_SUPPORTED is 1",
    *("BAR2 stage 2: Normal-NC", "BAR4 registered", "BAR4 stage 2: Normal-WB .* with FWB"),
    *("no fault", "BAR4 stage 2: Normal-WB .* with FWB"),
]
REJECTED = [
    *("PFNMAP_SUPPORTED is 0", "BAR2 stage 2: Normal-NC", "BAR4 rejected: .* no DIC"),
    *("address from reconstructed", "cause: cacheable-pfnmap-unsupported", "replay, resolved"),
    *("BAR4 stage 2: Normal-WB", "emulate, resolved", "BAR4 stage 2: unmapped"),
]

LINUX_ACCEPTED = [
    *("accepts", "ioremap.* Device-nGnRE +Normal-WB .* with FWB"),
    *(
        "ioremap_wc.* Normal-NC +Normal-WB .* with FWB",
        "memremap.* Normal-WB.* Normal-WB .* with FWB",
    ),
]
LINUX_REJECTED = [
    *("rejects", "ioremap.* Device-nGnRE +Normal-WB .* no FWB"),
    *("ioremap_wc.* Normal-NC +Normal-WB .* no FWB", "cacheable-pfnmap-unsupported, resolved"),
    "cannot be RAM of the guest: .* no DIC",
]

THREE = "thread_2025_03_11_three_requirements"
LINUX = "thread_2025_03_11_linux_guest"
ANY_DEVICE = [name for name, device, _ in ON_A_DEVICE if device == "bochs"] + [THREE]


def execute(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::ResourceWarning", *arguments]
    return subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)


def run(*arguments: str) -> str:
    """Run an example and return its output; it must succeed and print nothing on stderr."""
    done = execute(*arguments)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def failing_status(*arguments: str) -> int:
    """Run an example that must fail with a one-line error, and return its exit status."""
    done = execute(*arguments)
    [line] = done.stderr.splitlines()
    assert line.startswith("pyvmm: error: ")
    return done.returncode


@pytest.mark.usefixtures("kvm")
def test_hello() -> None:
    arch = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert run("hello.py") == f"Hello from {arch}\n"


@pytest.mark.usefixtures("kvm")
def test_negotiate() -> None:
    assert "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED on the VM:" in run("negotiate.py")


@pytest.mark.usefixtures("kvm")
def test_trace_asks() -> None:
    name = "KVM_CAP_MEMORY_FAULT_INFO"
    printed = run("trace_asks.py", name, sys.executable, "negotiate.py")
    lacks = rf"\+ KVM_CHECK_EXTENSION {name} = 0 \[injected\]"
    assert_in_order(printed, [f"{name} is one of them", lacks])


@pytest.mark.parametrize(
    ("name", "device", "lines"),
    [
        pytest.param(*case, id=case[0], marks=pytest.mark.needs_device(case[1]))
        for case in ON_A_DEVICE
    ],
)
@pytest.mark.needs_arch("aarch64")
def test_on_a_device(name: str, device: str, lines: list[str]) -> None:
    printed = run(f"{name}.py", bdf(device))
    assert_in_order(printed, lines)
    assert_recorded(name, printed)


def bdf(device: str) -> str:
    return str(next(find_devices(device)))


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_device("grace")
def test_three_requirements() -> None:
    printed = run(f"{THREE}.py", bdf("grace"))
    assert_in_order(printed, SUPPORTED if "PFNMAP_SUPPORTED is 1" in printed else REJECTED)
    assert_recorded(THREE, printed)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.needs_device("grace")
def test_linux_guest() -> None:
    printed = run(f"{LINUX}.py", bdf("grace"))
    assert_in_order(printed, LINUX_ACCEPTED if "KVM accepts" in printed else LINUX_REJECTED)
    assert_recorded(LINUX, printed)


@pytest.fixture
def host_device() -> str:
    """Return the address of a device that is not bound to vfio."""
    for function in sorted(Path("/sys/bus/pci/devices").glob("*")):
        if "vfio" not in (function / "driver").resolve().name:
            return function.name
    pytest.skip("needs a PCI device that is not bound to vfio")


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("name", ANY_DEVICE)
def test_a_device_that_is_not_bound_to_vfio(name: str, host_device: str) -> None:
    assert failing_status(f"{name}.py", host_device) == Status.LACKING


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("name", ["dma", *ANY_DEVICE])
def test_an_absent_device(name: str) -> None:
    assert failing_status(f"{name}.py", "ffff:ff:1f.7") == Status.USAGE


@pytest.mark.parametrize(
    "name", ["dma", pytest.param("msix", marks=pytest.mark.needs_arch("aarch64"))]
)
def test_a_device_of_another_kind(name: str, host_device: str) -> None:
    assert failing_status(f"{name}.py", host_device) == Status.USAGE


@pytest.mark.needs_arch("x86_64")
def test_msix_needs_an_arm64_cpu() -> None:
    assert failing_status("msix.py") == Status.LACKING


def test_trace_asks_needs_a_command() -> None:
    assert failing_status("trace_asks.py", "KVM_CAP_MEMORY_FAULT_INFO") == Status.USAGE


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("name", ["hello", "negotiate"])
def test_without_permission(name: str) -> None:
    def example() -> str:
        with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return f"{ended.value.code} {said.getvalue()}"

    runpy.run_path(str(EXAMPLES / f"{name}.py"))  # import all modules first
    [line] = as_nobody(example).splitlines()
    assert line.startswith(f"{Status.LACKING} pyvmm: error: cannot open /dev/kvm: Permission")


def assert_in_order(printed: str, lines: list[str]) -> None:
    rest = printed
    for line in lines:
        found = re.search(line, rest)
        assert found, f"no {line!r}, or in the wrong order, in:\n{printed}"
        rest = rest[found.end() :]


def test_every_example_is_tested() -> None:
    existing = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = {name for name, _, _ in ON_A_DEVICE}
    elsewhere = {"hello", "negotiate", THREE, LINUX, "trace_asks"}
    assert existing == tested | elsewhere


def assert_recorded(name: str, printed: str) -> None:
    """Compare what an example printed with the documentation, if that is of this kernel and CPU."""
    cpu = "neoverse-n1" if "with no FWB" in printed else "max"
    recorded = OUTPUT / f"{name}.{cpu}.txt"
    if recorded.exists():
        host, _, output = recorded.read_text().partition("\n")
        if host.startswith(f"Linux {platform.release()},"):
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", output)
