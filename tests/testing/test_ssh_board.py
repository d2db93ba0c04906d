# SPDX-License-Identifier: GPL-2.0-only
"""Run ``--on ssh:HOST`` with an sshd of this machine."""

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import Machine, machine
from tests.testing.conftest import Session

pytestmark = pytest.mark.skipif(
    "PYVMM_LAB" in os.environ, reason="the lab has no sshd: run pytest outside"
)

MIXED = """
    import os
    import signal
    import time
    from pathlib import Path

    import pytest

    def kill(program):
        \"\"\"Kill this process's closest ancestor that runs `program`.\"\"\"
        pid = os.getpid()
        while program not in Path(f"/proc/{pid}/cmdline").read_text():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(pid, signal.SIGKILL)

    def test_is_remote():
        assert "SSH_CONNECTION" in os.environ

    def test_bad():
        print("printed on the board")
        raise AssertionError

    def test_disappears():
        kill("sshd-session")
        time.sleep(60)

    def test_next(): pass

    def test_hang():
        time.sleep(1000)

    def test_skipped():
        pytest.skip("for a reason")
"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path / "sshd", "board") as running:
        yield running


def test_reports_and_new_start_after_a_lost_connection(session: Session, board: Machine) -> None:
    options = (f"--on=ssh:{getpass.getuser()}@board", f"--on-ssh={board.ssh}")
    result = session(MIXED, *options, "--lab-timeout=15", "-v")
    assert result.line("test_is_remote") == "ok test_is_remote"
    assert result.line("test_bad") == "not ok test_bad"
    assert "printed on the board" in result.stdout
    assert result.line("test_disappears") == "not ok test_disappears"
    assert "the board board disappeared: " in result.stdout
    assert result.line("test_next") == "ok test_next"
    assert result.line("test_hang") == "not ok test_hang"
    assert "the command did not end within 15 s" in result.stdout
    assert result.line("test_skipped") == "ok test_skipped # SKIP for a reason"
    assert list(board.temporary.iterdir()) == []


def test_two_machines_at_once(session: Session, tmp_path: Path) -> None:
    with machine(tmp_path / "one", "one") as one, machine(tmp_path / "two", "two") as two:
        config = tmp_path / "both"
        config.write_text("".join(Path(each.ssh.split()[-1]).read_text() for each in (one, two)))
        result = session(
            "import os\ndef test_tmpdir(): print(os.environ['TMPDIR']); raise AssertionError",
            *("--on=ssh:one", "--on=ssh:two", f"--on-ssh=ssh -F {config}"),
            *("-n2", "--dist=loadgroup"),
        )
        for name, each in (("one", one), ("two", two)):
            assert result.line(f"test_tmpdir[{name}]") == f"not ok test_tmpdir[{name}]"
            assert str(each.temporary) in result.stdout
            assert list(each.temporary.iterdir()) == []


def test_a_device_that_the_board_has_not(session: Session, board: Machine) -> None:
    options = ("--on=ssh:board", f"--on-ssh={board.ssh}", "--on-device=ffff:ff:1f.7")
    result = session("def test_it(): pass", *options)
    assert result.line("test_it") == "not ok test_it"
    assert "ffff:ff:1f.7" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--on=telnet:board"], 4, "--on telnet:board: pass ssh:HOST"),
        (["--on=ssh:board", "--on-ssh=/no/such/ssh"], 3, "/no/such/ssh not found"),
        (["--on=ssh:board", "--on-ssh=ssh -F /no/such"], 3, "cannot run a command on board: "),
    ],
)
def test_wrong_usage(session: Session, arguments: list[str], status: int, message: str) -> None:
    result = session("def test_it(): pass", *arguments)
    assert result.status == status
    assert message in result.stdout + result.stderr
