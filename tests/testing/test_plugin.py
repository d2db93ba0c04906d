# SPDX-License-Identifier: GPL-2.0-only
import platform
import subprocess
import sys

import pytest

from tests.testing.conftest import Session

OTHER = {"aarch64": "x86_64", "x86_64": "aarch64"}.get(platform.machine(), "x86_64")

NEEDY = f"""
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


def test_what_is_missing_is_skipped_and_says_the_way(session: Session) -> None:
    ended = session(NEEDY)
    assert ended.result("test_arch").startswith(f"ok test_arch # SKIP needs {OTHER}; run it ")
    assert ended.result("test_arch_here") == "ok test_arch_here"
    skipped = ended.result("test_cap")
    assert skipped.startswith("ok test_cap # SKIP KVM_CAP_PPC_SMT (64) is 0 on ")
    assert skipped.endswith("pytest --lab --lab-kernel IMAGE --lab-cpu max")
    assert ended.result("test_cap_here") == "ok test_cap_here"
    assert "SKIP vfio has no 1af4:ffff here: " in ended.result("test_device")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("test_cap_unknown", "no header that pyvmm knows has KVM_CAP_FOO: name your kernel's"),
        ("test_device_unknown", "needs_device('gpu'): it is one of bochs, edu, nvme, grace, or"),
    ],
)
def test_what_there_is_not_is_a_mistake(session: Session, test: str, said: str) -> None:
    ended = session(NEEDY, "-k", test)
    assert ended.result(test) == f"not ok {test}"
    assert said in ended.ktap


def test_the_five_iommu_modes(session: Session) -> None:
    ended = session("def test_mode(iommu_mode): pass", "--collect-only", "-q")
    modes = [line.partition("[")[2] for line in ended.stdout.splitlines() if "[" in line]
    assert sorted(modes) == [
        *("iommufd]", "iommufd_compat_type1]", "iommufd_compat_type1v2]"),
        *("vfio_type1_iommu]", "vfio_type1v2_iommu]"),
    ]


def test_a_mode_of_the_tests_own(session: Session) -> None:
    text = """
        import pytest

        @pytest.mark.parametrize("iommu_mode", ["iommufd"], indirect=True)
        def test_mode(iommu_mode): pass
    """
    assert "1 test collected" in session(text, "--collect-only", "-q").stdout


def test_a_failed_test_shows_its_guest(session: Session) -> None:
    ended = session(
        """
        from pyvmm.testing import SystemOff

        def test_it(guest):
            text = {"arm64": "str w1, [x0]", "x86_64": "mov %esi, (%rdi)"}
            guest(text, 0x9000000, 7).expects(SystemOff())
        """
    )
    assert ended.status == 1
    for shown in (
        "Unexpected: exit 1 is Mmio(gpa=0x9000000, size=4, write=True, value=0x7)",
        "write of 0x4 bytes at GPA 0x9000000, says KVM",
        "> 0x4020000",
        " 0x0000000009000000",
        "0: GPA 0x40000000-0x40400000, 0x400000 bytes at HVA 0x",
    ):
        assert shown in ended.stdout
    assert "pyvmm/testing/guest.py" not in ended.stdout  # the failure is the test's line


@pytest.mark.needs_arch("aarch64")
def test_a_failed_test_shows_its_fault(session: Session) -> None:
    ended = session(
        """
        from pyvmm.memory import Mapping
        from pyvmm.testing import SystemOff

        def test_it(vm, guest):
            with Mapping.anonymous(0x4000) as memory:
                vm.memslots.add(0x80000000, memory)
                memory.unmap()
                guest("str w1, [x0]", 0x80001000).expects(SystemOff())
        """
    )
    assert "write of 0x4 bytes at GPA 0x80001000, says the vCPU's state" in ended.stdout
    assert "hva-unmapped: nothing is mapped at HVA 0x" in ended.stdout
    assert "could be mended (replay): " in ended.stdout


def test_headers_that_are_none(session: Session) -> None:
    ended = session("def test_it(): pass", "--kvm-headers=.")
    assert ended.status == 4
    assert ended.stderr.startswith("ERROR: --kvm-headers: ")


def test_everyone_elses_tests_load_nothing_of_it() -> None:
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
