# SPDX-License-Identifier: GPL-2.0-only
"""Run ``--lab`` with real emulated hosts, in as few boots as possible."""

import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.testing.conftest import Session

pytestmark = pytest.mark.skipif(
    "PYVMM_LAB" in os.environ,
    reason="the lab does not run in the lab: run pytest outside",
)

WORKERS = ("-n2", "--dist")

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
    result = session(MIXED, "--lab", "--lab-timeout=30", "--junitxml=it.xml", "-v")
    assert result.line("test_arm64") == "ok test_arm64"
    assert result.line("test_bad[1]") == "not ok test_bad[1]"
    assert result.line("test_bad[2]") == "ok test_bad[2]"
    assert result.line("test_reboot") == "not ok test_reboot"
    assert "last lines of the console:" in result.stdout
    assert "reboot: Restarting system" in result.stdout
    assert result.line("test_next") == "ok test_next"
    assert result.line("test_hang") == "not ok test_hang"
    assert "did not end within 30 s" in result.stdout
    assert result.line("test_skipped") == "ok test_skipped # SKIP for a reason"
    assert "printed in the host" in result.stdout
    assert "assert 1 == 2" in result.stdout
    assert "test_it.py::test_bad[1] FAILED" in result.stdout
    assert 'name="machine" value="aarch64"' in (tmp_path / "it.xml").read_text()


BOOT_ID = """
    import uuid
    from pathlib import Path

    import pytest

    def boot_id():
        identity = Path("/tmp/boot-id")
        if not identity.exists():
            identity.write_text(str(uuid.uuid4()))
        return identity.read_text()

    @pytest.mark.parametrize("n", [1, 2])
    def test_dic(caps, n, record_property):
        record_property("boot", boot_id())
        print("printed in the host")
        assert caps.features.dic

    @pytest.mark.skip(reason="for a reason")
    def test_skipped(): pass
"""


def boots(tmp_path: Path) -> dict[str, set[str]]:
    """Return the boots of each module and target in it.xml."""
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(tmp_path / "it.xml").iter("testcase"):
        for each in case.iter("property"):
            target = case.get("name", "").partition("[")[2].rpartition("-")[0]
            found.setdefault(f"{case.get('classname')} {target}", set()).add(each.get("value", ""))
    return found


def test_each_target_is_a_parameter_and_a_worker_boots_it_once(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "test_that.py").write_text(textwrap.dedent(BOOT_ID))
    cpus = ("--lab-cpu=max", "--lab-cpu=cortex-a710")
    only = ("-k", "not skipped and not (that and 2)")
    result = session(BOOT_ID, "--lab", *cpus, *only, *WORKERS, "loadgroup", "--junitxml=it.xml")
    assert result.line("test_dic[max-lab-1]") == "ok test_dic[max-lab-1]"
    assert result.line("test_dic[cortex-a710-lab-1]") == "not ok test_dic[cortex-a710-lab-1]"
    assert result.ktap.count("test_dic[max-lab-2]") == 1
    found = boots(tmp_path)
    assert found["test_it max-lab"] == found["test_that max-lab"]
    assert found["test_it cortex-a710-lab"] == found["test_that cortex-a710-lab"]
    assert sorted(map(len, found.values())) == [1] * 4
    assert found["test_it max-lab"] != found["test_it cortex-a710-lab"]


def test_two_workers_split_the_modules(session: Session, tmp_path: Path) -> None:
    (tmp_path / "test_that.py").write_text(textwrap.dedent(BOOT_ID))
    options = (*WORKERS, "loadfile", "--junitxml=it.xml", "-v", "--lab-cpu=cortex-a710")
    result = session(BOOT_ID, "--lab", *options)
    modules = result.ktap.split("# Subtest: ")[1:]
    assert sorted(module.splitlines()[0] for module in modules) == ["test_it.py", "test_that.py"]
    for module in modules:
        assert "  not ok 1 test_dic[1]\n" in module
        assert "  not ok 2 test_dic[2]\n" in module
        assert "  ok 3 test_skipped # SKIP for a reason\n" in module
    assert result.stdout.count("Captured stdout call") == 4
    assert "FAILED test_that.py::test_dic[1]" in result.stdout
    assert [len(found) for found in boots(tmp_path).values()] == [1, 1]
    assert len(set.union(*boots(tmp_path).values())) == 2


def test_wrong_usage_before_the_workers_start(session: Session) -> None:
    result = session("def test_it(): pass", "--lab", "--lab-kernel=/no/such/Image", "-n2")
    assert result.status == 2
    assert "kernel '/no/such/Image' not found" in result.stderr
    assert "workers" not in result.stdout


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "two workers"])
def test_results_appear_at_once_and_an_interrupt_ends_the_hosts(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text("def test_good(): pass\n")
    (tmp_path / "test_long.py").write_text("import time\ndef test_long(): time.sleep(1000)\n")
    command = [sys.executable, "-m", "pytest", "-p", "pyvmm.testing.plugin", "--lab", "-v"]
    with subprocess.Popen(
        [*command, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        output = _read_until(process.stdout.fileno(), b"PASSED")
        hosts = [pid for pid in _descendants(process.pid) if _is_qemu(pid)]
        os.killpg(process.pid, signal.SIGINT)
        output += process.stdout.read()
    assert hosts
    assert not any(map(_is_qemu, hosts))
    assert b"KeyboardInterrupt" in output or b"keyboard-interrupt" in output


def _descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _descendants(int(child))


def _is_qemu(pid: int) -> bool:
    try:
        return b"virtualization=on" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_modes_of_kvm(session: Session) -> None:
    text = """
        import os
        import subprocess

        def test_mode():
            log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
            assert "Hyp nVHE mode initialized" in log

        def test_machine():
            assert os.cpu_count() == 1
            assert "HugePages_Total:       3" in open("/proc/meminfo").read()
    """
    options = ["--lab-cpus-online=1", "--lab-hugepages=3"]
    result = session(text, "--lab", "--lab-mode=nvhe", "--lab-mode=vhe", *options)
    assert result.line("test_machine[max-lab-nvhe]") == "ok test_machine[max-lab-nvhe]"
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
        (["--lab-shell-on-failure", "-n2"], 4, "--lab-shell-on-failure needs a session without -n"),
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
