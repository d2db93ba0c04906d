# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.memory.vma import Vma
from pyvmm.why import Host
from pyvmm.why.stage2_type import stage2_type
from tests.why.hosts import ARM64_WITH_FWB, ARM64_WITHOUT_FWB, X86


def vma(path: str, *flags: str) -> Vma:
    return Vma(0x1000, 0x2000, "rw-s", 0, path, frozenset(flags))


BAR = "/sys/devices/pci0000:00/0000:00:01.0/resource0"
VFIO = "/dev/vfio/devices/vfio0"


@pytest.mark.parametrize(
    ("host", "path", "flags", "mark", "why"),
    [
        (X86, "/dev/mem", ("pf",), "known", "PFNMAP"),
        (X86, "", (), "known", "write-back"),
        (ARM64_WITH_FWB, "", (), "known", "Normal-WB"),
        (ARM64_WITH_FWB, "/dev/mem", ("pf",), "inferred", "then Normal-WB in stage 2"),
        (
            ARM64_WITH_FWB,
            "/dmabuf:",
            ("pf",),
            "inferred",
            "Normal-WB in stage 2 if the memory is RAM",
        ),
        (ARM64_WITH_FWB, BAR, ("pf",), "inferred", "Device-nGnRE in stage 2, unless"),
        (ARM64_WITHOUT_FWB, "/dev/mem", ("pf",), "inferred", "fails with EINVAL"),
        (ARM64_WITHOUT_FWB, VFIO, ("pf", "??"), "inferred", "Normal-NC in stage 2, if"),
        (ARM64_WITH_FWB, "anon_inode:[vfio-device]", ("pf", "??"), "inferred", "Normal-NC"),
        (ARM64_WITH_FWB, VFIO, ("pf",), "inferred", "by a variant driver"),
    ],
)
def test_stage2_type(host: Host, path: str, flags: tuple[str, ...], mark: str, why: str) -> None:
    finding = stage2_type(vma(path, *flags), host)
    assert (finding.name, finding.mark) == ("stage-2", mark)
    assert why in finding.why
