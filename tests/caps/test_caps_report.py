# SPDX-License-Identifier: GPL-2.0-only
import json
import platform

import pytest

from pyvmm.caps import CapsReport, negotiate
from pyvmm.errors import SkippedError
from pyvmm.kvm import System
from pyvmm.uapi.names import names
from tests.process import open_fds

VERDICTS = [
    "cacheable-pfnmap",
    "memory-fault-info",
    "user-memory-2",
    "guest-memfd",
    "nisv-to-user",
    "sea-to-user",
    "vfio",
    "iommufd",
]


@pytest.fixture
def report(kvm: System) -> CapsReport:
    return negotiate(kvm)


def test_negotiate_closes_its_fds(kvm: System) -> None:
    before = open_fds()
    negotiate(kvm)
    assert open_fds() == before


def test_the_json_is_as_documented(report: CapsReport) -> None:
    document = report.to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "pyvmm.caps/1"
    assert document["host"] == {"kernel": platform.release(), "arch": platform.machine()}
    assert document["kvm"] == {"api_version": 12}
    assert set(document) == {"schema", "host", "kvm", "capabilities", "features", "verdicts"}
    assert {c["number"]: c["name"] for c in document["capabilities"]} == names("KVM_CAP_")
    for capability in document["capabilities"]:
        assert set(capability) == {"name", "number", "system", "vm"}
        for answer in (capability["system"], capability["vm"]):
            assert set(answer) == {"value", "errno"}
    assert [verdict["name"] for verdict in document["verdicts"]] == VERDICTS
    for verdict in document["verdicts"]:
        assert set(verdict) == {"name", "supported", "why"}


def test_lookup_by_name(report: CapsReport) -> None:
    assert report.capability("KVM_CAP_USER_MEMORY").value == 1
    assert report.verdict("vfio").why
    with pytest.raises(KeyError):
        report.capability("KVM_CAP_NO_SUCH")
    with pytest.raises(KeyError):
        report.verdict("no-such")


@pytest.mark.needs_arch("x86_64")
def test_cacheable_pfnmap_does_not_apply_to_x86(report: CapsReport) -> None:
    assert report.features is None
    assert report.verdict("cacheable-pfnmap").why.startswith("does not apply")
    with pytest.raises(SkippedError, match="needs an arm64 CPU"):
        _ = report.cpu


@pytest.mark.needs_arch("aarch64")
def test_the_verdict_fits_the_cpu(report: CapsReport) -> None:
    both = report.cpu.fwb and report.cpu.dic
    assert report.verdict("cacheable-pfnmap").supported <= both
