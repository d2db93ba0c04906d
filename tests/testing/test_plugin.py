# SPDX-License-Identifier: GPL-2.0-only
import platform
import subprocess
import sys

import pytest

from tests.testing.conftest import Session

OTHER = {"aarch64": "x86_64", "x86_64": "aarch64"}.get(platform.machine(), "x86_64")

REQUIREMENTS = f"""
    import pytest

    @pytest.mark.needs_arch("{OTHER}")
    def test_arch(): raise AssertionError

    @pytest.mark.needs_arch("{platform.machine()}")
    def test_arch_here(): pass

    @pytest.mark.needs_cap("KVM_CAP_USER_MEMORY", "KVM_CAP_PPC_SMT")
    def test_cap(): raise AssertionError

    @pytest.mark.needs_cap("KVM_CAP_USER_MEMORY")
    def test_cap_here(): pass

    @pytest.mark.needs_cap("KVM_CAP_FOO")
    def test_cap_unknown(): pass

    @pytest.mark.needs_device("1af4:ffff")
    def test_device(): raise AssertionError

    @pytest.mark.needs_device("gpu")
    def test_device_unknown(): pass

    @pytest.mark.needs_feature("sve9")
    def test_feature_unknown(): pass
"""


def test_unmet_requirement_is_skipped_with_a_hint(session: Session) -> None:
    result = session(REQUIREMENTS)
    assert result.line("test_arch").startswith(f"ok test_arch # SKIP needs {OTHER}; run it ")
    assert result.line("test_arch_here") == "ok test_arch_here"
    skipped = result.line("test_cap")
    assert skipped.startswith("ok test_cap # SKIP KVM_CAP_PPC_SMT (64) is 0 on ")
    assert skipped.endswith("pytest --lab --lab-kernel IMAGE --lab-cpu max")
    assert result.line("test_cap_here") == "ok test_cap_here"
    assert "SKIP no 1af4:ffff device is bound to a vfio driver: " in result.line("test_device")


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("test_cap_unknown", "KVM_CAP_FOO is in no header that pyvmm has: pass your kernel's"),
        ("test_device_unknown", "needs_device('gpu'): pass grace, bochs, "),
    ],
)
def test_invalid_requirement_fails(session: Session, test: str, message: str) -> None:
    result = session(REQUIREMENTS, "-k", test)
    assert result.line(test) == f"not ok {test}"
    assert message in result.ktap


def test_the_five_iommu_modes(session: Session) -> None:
    result = session("def test_mode(iommu_mode): pass", "--collect-only", "-q")
    modes = [line.partition("[")[2] for line in result.stdout.splitlines() if "[" in line]
    assert sorted(modes) == [
        *("iommufd]", "iommufd_compat_type1]", "iommufd_compat_type1v2]"),
        *("vfio_type1_iommu]", "vfio_type1v2_iommu]"),
    ]


def test_parametrized_iommu_mode(session: Session) -> None:
    text = """
        import pytest

        @pytest.mark.parametrize("iommu_mode", ["iommufd"], indirect=True)
        def test_mode(iommu_mode): pass
    """
    assert "1 test collected" in session(text, "--collect-only", "-q").stdout


def test_failed_test_shows_its_guest(session: Session) -> None:
    result = session(
        """
        from pyvmm.testing import SystemOff

        def test_it(guest):
            text = {"arm64": "str w1, [x0]", "x86_64": "mov %esi, (%rdi)"}
            guest(text, 0x9000000, 7).expects(SystemOff())
        """
    )
    assert result.status == 1
    for text in (
        "Unexpected: exit 1 is Mmio(gpa=0x9000000, size=4, write=True, value=0x7)",
        "write of 0x4 bytes at GPA 0x9000000, reported by KVM",
        "> 0x4020000",
        " 0x0000000009000000",
        "0: GPA 0x40000000-0x40400000, 0x400000 bytes at HVA 0x",
    ):
        assert text in result.stdout
    assert "pyvmm/testing/guest.py" not in result.stdout  # the traceback ends in the test


@pytest.mark.needs_arch("aarch64")
def test_failed_test_shows_its_fault(session: Session) -> None:
    result = session(
        """
        from pyvmm import libc
        from pyvmm.memory import PROT_NONE, Mapping
        from pyvmm.testing import SystemOff

        def test_it(vm, guest):
            memory = Mapping.anonymous(0x4000)  # open when the report is written
            vm.memslots.add(0x80000000, memory)
            libc.mprotect(memory.hva, memory.size, PROT_NONE)
            guest("str w1, [x0]", 0x80001000).expects(SystemOff())
        """
    )
    assert "write of 0x4 bytes at GPA 0x80001000, derived from the vCPU's state" in result.stdout
    assert "hva-no-access: " in result.stdout
    assert "remedy (replay): " in result.stdout


def test_directory_without_headers(session: Session) -> None:
    result = session("def test_it(): pass", "--kvm-headers=.")
    assert result.status == 4
    assert result.stderr.startswith("ERROR: --kvm-headers: ")


def test_plugin_imports_nothing_else() -> None:
    loaded = (
        "import sys, pyvmm.testing.plugin\n"
        "print(*(name for name in sys.modules if name.startswith('pyvmm')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        *("pyvmm", "pyvmm.testing", "pyvmm.testing.fixtures", "pyvmm.testing.plugin"),
    ]
