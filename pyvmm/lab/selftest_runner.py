# SPDX-License-Identifier: GPL-2.0-only
"""The program in the emulated host that runs selftests: ``python3 -m … JOB``.

JOB is a JSON file with ``tests``: their names, commands and time limits. Each line of stdout is a
JSON object: a test that starts, a part of its output, its end. A test that cannot be killed ends
this program, and the next boot continues.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
_PATIENCE = 10.0  # seconds for a killed test to end
_HUGE_PAGES = 128 << 20  # bytes of each size; stage2_block_transitions maps 64 of 2 MiB


def main() -> None:
    """Run the tests of the job, one after the other."""
    job = json.loads(Path(sys.argv[1]).read_text())
    for pool in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        size = int(pool.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        (pool / "nr_hugepages").write_text(str(_HUGE_PAGES // size))
    with contextlib.suppress(OSError):  # no cgroups; access_tracking_perf_test needs them
        Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
    for test in job["tests"]:
        if not _run(**test):
            return


def _run(name: str, command: list[str], timeout: float, trace: str | None) -> bool:
    """Run a test and report it. Return False if it cannot be killed."""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    _report(event="start", name=name)
    start = time.monotonic()
    with subprocess.Popen(
        command,
        cwd="/tmp",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        in_time = _copy_output(process, start + timeout)
        _kill_session(process.pid)
        try:
            status = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            _report(event="stuck", name=name, log=_read_log(log))
            os._exit(1)  # without a wait for the test
        _report(
            event="end",
            name=name,
            status=status,
            in_time=in_time,
            seconds=round(time.monotonic() - start, 2),
            log=_read_log(log),
            trace=Path(trace).read_text() if trace and Path(trace).exists() else "",
        )
    os.close(log)
    return True


def _kill_session(leader: int) -> None:
    """Kill a test and what it left behind, in any process group of its session."""
    for directory in Path("/proc").glob("[0-9]*"):
        # A process may have ended since.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if os.getsid(int(directory.name)) == leader:
                os.kill(int(directory.name), signal.SIGKILL)


def _copy_output(process: "subprocess.Popen[bytes]", deadline: float) -> bool:
    """Report the output until the test ends. Return False if the time is over first."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    while ended := process.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        select.select([output], [], [], min(left, 0.1))
        _copy_available(output)
    _copy_available(output)
    return not ended


def _copy_available(output: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while data := os.read(output, _CHUNK):
            _report(event="output", text=data.decode(errors="replace"))


def _read_log(log: int) -> list[str]:
    """Return the new lines of the kernel's log."""
    lines: list[str] = []
    while True:
        try:
            record = os.read(log, _CHUNK).decode(errors="replace")
        except BlockingIOError:
            return lines
        except BrokenPipeError:  # the kernel has overwritten records
            continue
        lines.append(record.partition(";")[2].partition("\n")[0])


def _report(**event: Any) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    main()
