# SPDX-License-Identifier: GPL-2.0-only
"""``--lab`` with real emulated hosts, booted as seldom as can be."""

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
    "PYVMM_LAB" in os.environ, reason="the lab does not run in itself: run pytest outside"
)

MIXED = """
    import os
    import platform
    import sys
    import time

    import pytest

    def test_there(guest, record_property):
        record_property("machine", platform.machine())
        assert platform.machine() == "aarch64"

    @pytest.mark.parametrize("number", [1, 2])
    def test_bad(number):
        print("said there")
        assert number == 2

    def test_it_dies_of():
        os.system("reboot -f; sleep 60")

    def test_next():
        assert float(open("/proc/uptime").read().split()[0]) < 600

    def test_it_hangs_in():
        time.sleep(1000)

    def test_skipped():
        pytest.skip("for a reason")
"""


def test_reports_are_as_ever_and_a_dead_host_is_replaced(session: Session, tmp_path: Path) -> None:
    ended = session(MIXED, "--lab", "--lab-timeout=15", "--junitxml=it.xml", "-v")
    assert ended.result("test_there") == "ok test_there"
    assert ended.result("test_bad[1]") == "not ok test_bad[1]"
    assert ended.result("test_bad[2]") == "ok test_bad[2]"
    assert ended.result("test_it_dies_of") == "not ok test_it_dies_of"
    assert "the last lines on its console:" in ended.stdout
    assert "reboot: Restarting system" in ended.stdout
    assert ended.result("test_next") == "ok test_next"
    assert ended.result("test_it_hangs_in") == "not ok test_it_hangs_in"
    assert "did not end within 15 s" in ended.stdout
    assert ended.result("test_skipped") == "ok test_skipped # SKIP for a reason"
    assert "said there" in ended.stdout
    assert "assert 1 == 2" in ended.stdout
    assert "test_it.py::test_bad[1] FAILED" in ended.stdout
    assert 'name="machine" value="aarch64"' in (tmp_path / "it.xml").read_text()


def test_each_board_is_a_parameter(session: Session) -> None:
    text = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_dic(caps, n):
            assert caps.features.dic
    """
    ended = session(text, "--lab", "--lab-cpu=max", "--lab-cpu=cortex-a710", "-k", "dic and not 2")
    assert ended.result("test_dic[max-lab-1]") == "ok test_dic[max-lab-1]"
    assert ended.result("test_dic[cortex-a710-lab-1]") == "not ok test_dic[cortex-a710-lab-1]"
    assert "test_dic[max-lab-2]" not in ended.ktap


def test_x_ends_the_host_too(session: Session) -> None:
    ended = session(
        """
        import time

        def test_bad(): raise AssertionError
        def test_long(): time.sleep(1000)
        """,
        *("--lab", "-x"),
    )
    assert ended.status == 1
    assert "# it was not run" in ended.ktap


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--lab-cpu=z80"], 1, "there is no CPU 'z80': QEMU has a64fx, cortex-a"),
        (["--lab-device=gpu"], 2, "there is no device 'gpu'"),
        (["--lab-kernel=/no/such/Image"], 2, "there is no kernel '/no/such/Image'"),
        (["--pdb"], 4, "--lab-shell-on-failure"),
    ],
)
def test_wrong_usage(session: Session, arguments: list[str], status: int, said: str) -> None:
    ended = session("def test_it(): pass", "--lab", *arguments)
    assert ended.status == status
    assert said in ended.stdout + ended.stderr


def test_a_shell_where_a_test_failed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): raise AssertionError\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "pyvmm.testing.plugin", "--lab"]
    with subprocess.Popen(
        [*command, "--lab-shell-on-failure"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        os.close(theirs)
        _until(ours, b"a shell in the emulated host")
        said = _until(ours, b"# ")  # before the shell's prompt, what is typed may be lost
        os.write(ours, b"echo $((6 * 7)) on $(uname -m)\nexit\n")
        said += _until(ours, b"1 failed")
        process.wait(60)
    os.close(ours)
    assert b"42 on aarch64" in said


def _until(descriptor: int, word: bytes) -> bytes:
    said, end = b"", time.monotonic() + 240
    while word not in said:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        assert ready, said.decode(errors="replace")
        try:
            said += os.read(descriptor, 4096)
        except OSError:  # the other end was closed
            break
    assert word in said, said.decode(errors="replace")
    return said
