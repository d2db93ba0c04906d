# SPDX-License-Identifier: GPL-2.0-only
"""Run ``--lab`` with real emulated hosts, in as few boots as possible."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.testing.conftest import Session

pytestmark = pytest.mark.skipif(
    "PYVMM_LAB" in os.environ,
    reason="the lab does not run in the lab: run pytest outside",
)

MIXED = """
    import os
    import platform
    import sys
    import time

    import pytest

    def test_arm64(guest, record_property):
        record_property("machine", platform.machine())
        assert platform.machine() == "aarch64"

    @pytest.mark.parametrize("number", [1, 2])
    def test_bad(number):
        print("printed in the host")
        assert number == 2

    def test_reboot():
        os.system("reboot -f; sleep 60")

    def test_next():
        assert float(open("/proc/uptime").read().split()[0]) < 600

    def test_hang():
        time.sleep(1000)

    def test_skipped():
        pytest.skip("for a reason")
"""


def test_reports_and_new_boot_after_host_failure(session: Session, tmp_path: Path) -> None:
    result = session(MIXED, "--lab", "--lab-timeout=40", "--junitxml=it.xml", "-v")
    assert result.line("test_arm64") == "ok test_arm64"
    assert result.line("test_bad[1]") == "not ok test_bad[1]"
    assert result.line("test_bad[2]") == "ok test_bad[2]"
    assert result.line("test_reboot") == "not ok test_reboot"
    assert "last lines of the console:" in result.stdout
    assert "reboot: Restarting system" in result.stdout
    assert result.line("test_next") == "ok test_next"
    assert result.line("test_hang") == "not ok test_hang"
    assert "did not end within 40 s" in result.stdout
    assert result.line("test_skipped") == "ok test_skipped # SKIP for a reason"
    assert "printed in the host" in result.stdout
    assert "assert 1 == 2" in result.stdout
    assert "test_it.py::test_bad[1] FAILED" in result.stdout
    assert 'name="machine" value="aarch64"' in (tmp_path / "it.xml").read_text()


def test_each_target_is_a_parameter(session: Session) -> None:
    text = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_dic(caps, n):
            assert caps.features.dic
    """
    result = session(text, "--lab", "--lab-cpu=max", "--lab-cpu=cortex-a710", "-k", "dic and not 2")
    assert result.line("test_dic[max-lab-1]") == "ok test_dic[max-lab-1]"
    assert result.line("test_dic[cortex-a710-lab-1]") == "not ok test_dic[cortex-a710-lab-1]"
    assert "test_dic[max-lab-2]" not in result.ktap


def test_modes_of_kvm(session: Session) -> None:
    text = """
        import subprocess

        def test_mode():
            log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
            assert "Hyp nVHE mode initialized" in log
    """
    result = session(text, "--lab", "--lab-mode=nvhe", "--lab-mode=vhe")
    assert result.line("test_mode[max-lab-nvhe]") == "ok test_mode[max-lab-nvhe]"
    assert result.line("test_mode[max-lab-vhe]") == "not ok test_mode[max-lab-vhe]"


def test_x_ends_the_host(session: Session) -> None:
    result = session(
        """
        import time

        def test_bad(): raise AssertionError
        def test_long(): time.sleep(1000)
        """,
        *("--lab", "-x"),
    )
    assert result.status == 1
    assert "# not run" in result.ktap


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--lab-cpu=z80"], 1, "unknown CPU 'z80': QEMU has a64fx, cortex-a"),
        (["--lab-mode=pkvm"], 1, "unknown mode of KVM 'pkvm': pass vhe, nvhe"),
        (["--lab-device=gpu"], 2, "unknown device 'gpu'"),
        (["--lab-kernel=/no/such/Image"], 2, "kernel '/no/such/Image' not found"),
        (["--pdb"], 4, "--lab-shell-on-failure"),
    ],
)
def test_wrong_usage(session: Session, arguments: list[str], status: int, message: str) -> None:
    result = session("def test_it(): pass", "--lab", *arguments)
    assert result.status == status
    assert message in result.stdout + result.stderr


def test_shell_after_failure(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): raise AssertionError\n")
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "pyvmm.testing.plugin", "--lab"]
    with subprocess.Popen(
        [*command, "--lab-shell-on-failure"],
        cwd=tmp_path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        os.close(terminal)
        _read_until(controller, b"shell in the emulated host")
        output = _read_until(controller, b"# ")  # input before the prompt may be lost
        os.write(controller, b"echo $((6 * 7)) on $(uname -m)\nexit\n")
        output += _read_until(controller, b"1 failed")
        process.wait(60)
    os.close(controller)
    assert b"42 on aarch64" in output


def _read_until(descriptor: int, text: bytes) -> bytes:
    output, end = b"", time.monotonic() + 240
    while text not in output:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        assert ready, output.decode(errors="replace")
        try:
            output += os.read(descriptor, 4096)
        except OSError:  # the process closed the terminal
            break
    assert text in output, output.decode(errors="replace")
    return output
