# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm uapi`` and ``--kvm-headers``."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyvmm.cli import main
from pyvmm.errors import Status
from pyvmm.kvm import System
from pyvmm.uapi import header_set
from pyvmm.uapi.builtin import version
from pyvmm.uapi.native_arch import architecture, kvm_run
from tests.json_documents import valid
from tests.process import exits_with
from tests.uapi.header_samples import header, kvm_header_set, struct


def pyvmm(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, because loaded names stay."""
    argv = [sys.executable, "-m", "pyvmm", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def debian() -> dict[str, Any]:
    """Return the diff of Debian's 6.1 and 7.2 headers."""
    pytest.importorskip("clang", reason="reading headers needs pip install 'pyvmm[headers]'")
    done = pyvmm("uapi", "diff", "debian:6.1", "debian:7.2", "--json")
    if done.returncode == Status.LACKING or "mirror has no" in done.stderr:
        pytest.skip(f"Debian's headers need its mirror: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0
    found: dict[str, Any] = valid(done.stdout)
    return found


def test_diff_document(debian: dict[str, Any]) -> None:
    assert debian["schema"] == "pyvmm.uapi-diff/1"
    assert debian["before"]["source"] == "debian:6.1"
    assert debian["before"]["version"].startswith("6.1.")
    assert debian["after"]["version"].startswith("7.2.")
    assert "arm64" in debian["architectures"]


@pytest.mark.parametrize(
    ("kind", "name", "after"),
    [
        ("capability", "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED", 243),
        ("capability", "KVM_CAP_GUEST_MEMFD", 234),
        ("capability", "KVM_CAP_GUEST_MEMFD_FLAGS", 244),
        ("capability", "KVM_CAP_USER_MEMORY2", 231),
        ("capability", "KVM_CAP_MEMORY_ATTRIBUTES", 233),
        ("exit", "KVM_EXIT_MEMORY_FAULT", 39),
        ("exit", "KVM_EXIT_ARM_SEA", 41),
        ("exit", "KVM_EXIT_ARM_LDST64B", 42),
        ("exit", "KVM_EXIT_SNP_REQ_CERTS", 43),
        ("constant", "KVM_MEM_GUEST_MEMFD", 4),
        ("constant", "GUEST_MEMFD_FLAG_MMAP", 1),
        ("constant", "GUEST_MEMFD_FLAG_INIT_SHARED", 2),
        (
            "ioctl",
            "KVM_CREATE_GUEST_MEMFD",
            {"number": 0xC040AED4, "argument": "kvm_create_guest_memfd"},
        ),
        ("struct", "kvm_create_guest_memfd", {"size": 64}),
        ("struct", "kvm_userspace_memory_region2", {"size": 160}),
        (
            "member",
            "kvm_run.memory_fault",
            {"type": "kvm_run_memory_fault", "counts": [], "offset": 32},
        ),
    ],
)
def test_diff_reports_a_new_name(
    debian: dict[str, Any], kind: str, name: str, after: object
) -> None:
    [change] = [change for change in debian["changes"] if change["name"] == name]
    assert (change["kind"], change["change"], change["class"]) == (kind, "appeared", "additive")
    assert (change["before"], change["after"]) == (None, after)


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("KVM_ASSIGN_PCI_DEVICE", "went", "breaking"),
        ("KVM_DIRTY_LOG_PAGE_OFFSET", "changed", "breaking"),
        ("KVM_DEV_TYPE_MAX", "changed", "additive"),
        ("vfio_device_info", "changed", "additive"),
    ],
)
def test_diff_reports_removed_and_changed_names(
    debian: dict[str, Any], name: str, change: str, kind: str
) -> None:
    [found] = [each for each in debian["changes"] if each["name"] == name]
    assert (found["change"], found["class"]) == (change, kind)


def test_diff_leaves_out_unchanged_names(debian: dict[str, Any]) -> None:
    names = {change["name"] for change in debian["changes"]}
    assert len(names) == len(debian["changes"])
    assert all(change["before"] != change["after"] for change in debian["changes"])
    # The first has new members, which are named; the others are as they were.
    assert names.isdisjoint({"kvm_run", "kvm_run.mmio", "kvm_run_mmio", "kvm_vcpu_events"})


def test_diff_of_equal_headers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uapi", "diff", "builtin", "builtin"]) == Status.DONE
    assert capsys.readouterr().out.endswith("arm64 and x86_64: nothing changed\n")


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["KVM_SET_USER_MEMORY_REGION2"], "argument   struct kvm_userspace_memory_region2, 160 b"),
        (["KVM_SET_USER_MEMORY_REGION2"], "40      4     u32      guest_memfd"),
        (["KVM_EXIT_MMIO"], "payload  kvm_run.mmio, 24 bytes at 32"),
        (["KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"], "number  243"),
        (["KVM_ARM_VCPU_INIT"], "ioctl, Linux 7.2, arm64"),
        (["kvm_regs", "--arch", "x86_64"], "144 bytes"),
    ],
)
def test_show(
    args: list[str],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["uapi", "show", *args]) == Status.DONE
    printed = capsys.readouterr().out
    assert shown in printed
    assert "since" in printed


def test_show_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["uapi", "show", "KVM_SET_USER_MEMORY_REGION", "--arch", "arm64", "--json"]) == 0
    document = valid(capsys.readouterr().out)
    assert document.pop("since").startswith("unknown: ")
    layout = document.pop("layout")
    assert document == {
        "schema": "pyvmm.uapi-show/1",
        "name": "KVM_SET_USER_MEMORY_REGION",
        "kind": "ioctl",
        "version": version(),
        "architecture": "arm64",
        "definition": {"number": 0x4020AE46, "argument": "kvm_userspace_memory_region"},
        "facts": {
            "number": "0x4020ae46",
            "fd": "vm",
            "direction": "write",
            "argument": "struct kvm_userspace_memory_region, 32 bytes",
        },
    }
    assert layout[0] == {"offset": 0, "size": "4", "type": "u32", "name": "slot"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["uapi", "show", ""], "argument NAME: '' is not a name"),
        (["uapi", "diff", "", "builtin"], "argument A: '' is not a source of headers"),
        (["uapi", "show", "KVM_RUN", "--headers", ""], "--headers: '' is not a source of headers"),
        (["uapi", "show", "KVM_CAP_IRQFDD"], "builtin has no KVM_CAP_IRQFDD: is it KVM_CAP_IRQ"),
        (["uapi", "diff", "/no/such", "builtin"], "/no/such is not a directory; give builtin"),
        (["uapi", "diff", "/dev", "builtin"], "/dev holds no kernel headers: give a kernel"),
        (["--kvm-headers=", "caps"], "holds no kernel headers for"),
        (["--kvm-headers", "/dev", "caps"], "/dev holds no kernel headers for"),
        (["--kvm-headers", "/no/such", "caps"], "/no/such holds no kernel headers for"),
        (["--kvm-headers", __file__, "caps"], "is not a header set"),
    ],
)
def test_errors_are_one_line(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with exits_with(Status.USAGE):
        main(args)
    printed = capsys.readouterr()
    *usage, line = printed.err.splitlines()
    assert (printed.out, line.startswith("pyvmm: error: ")) == ("", True)
    assert bool(usage) == line.startswith("pyvmm: error: argument ")
    assert says in line


@pytest.fixture
def loaded(tmp_path: Path) -> Path:
    """Return headers with a capability and an exit that no kernel has."""
    exit = struct("kvm_run_foo", 8, {"gpa": "u64@0"})
    run = struct("kvm_run", ctypes.sizeof(kvm_run), {"foo": "kvm_run_foo@32"})
    file = tmp_path / "set.json"
    kvm = header({"KVM_CAP_FOO": 300, "KVM_EXIT_FOO": 77}, (exit, run), version="6.1.176")
    header_set.save(kvm_header_set(kvm), file)
    return file


@pytest.mark.parametrize("options", [(), ("--arch", architecture)])
def test_show_names_the_version_of_the_loaded_headers(
    loaded: Path, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = pyvmm("--kvm-headers", loaded, "uapi", "show", "KVM_EXIT_FOO", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"KVM_EXIT_FOO: exit, Linux 6.1.176, {architecture}" in done.stdout
    assert "payload  kvm_run.foo, 8 bytes at 32" in done.stdout
    assert f"unknown: Linux {version()}, the newest at hand, lacks it" in done.stdout


def test_show_falls_back_to_the_built_in_definitions(loaded: Path) -> None:
    done = pyvmm("--kvm-headers", loaded, "uapi", "show", "KVM_EXIT_MMIO")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"KVM_EXIT_MMIO: exit, Linux {version()}, {architecture}" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("uapi", "diff", "builtin", "builtin"),
        ("uapi", "show", "KVM_RUN", "--headers", "/no/such"),
        ("lab", "status"),
        ("lab", "clean"),
        ("provoke", "--list"),
    ],
)
def test_loaded_headers_without_effect(
    loaded: Path, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If the check failed, these commands would fill or remove the user's cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = pyvmm("--kvm-headers", loaded, *command)
    assert (done.returncode, done.stdout) == (Status.USAGE, "")
    assert done.stderr.startswith("pyvmm: error: --kvm-headers has no effect")


def test_caps_checks_a_loaded_capability(loaded: Path, kvm: System) -> None:
    done = pyvmm(f"--kvm-headers={loaded}", "caps", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    [foo] = [c for c in valid(done.stdout)["capabilities"] if c["name"] == "KVM_CAP_FOO"]
    assert (foo["number"], foo["vm"]) == (300, {"value": 0, "errno": None})
