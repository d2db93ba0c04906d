# SPDX-License-Identifier: GPL-2.0-only
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pyvmm import libc
from pyvmm.errors import Status
from pyvmm.trace import ptrace
from tests.process import NOBODY, as_nobody

WITHOUT_PYTHON_PTRACE = """
import sys
sys.modules["ptrace"] = None  # makes the import fail
from pyvmm.cli import main
sys.exit(main(["trace", "--help"]))
"""


def test_missing_extra_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTHON_PTRACE], capture_output=True, text=True, check=False
    )
    assert done.returncode == Status.LACKING
    assert done.stderr == "pyvmm: error: trace needs python-ptrace: pip install 'pyvmm[trace]'\n"


def test_attach_error_names_the_owner() -> None:
    error = as_nobody(lambda: ptrace.attach_error(1))
    assert re.search("belongs to (root|user 0): trace it as that user", error)


def test_attach_error_names_a_set_user_id_program() -> None:
    if os.geteuid():
        pytest.skip("needs root, to create a set-user-ID program")

    def error() -> str:
        with subprocess.Popen([program, "60"]) as process:
            try:
                # Popen returns when execve(2) closes its pipe; the new credentials come later.
                while f"Uid:\t{NOBODY}\t0\t" not in Path(f"/proc/{process.pid}/status").read_text():
                    pass
                return ptrace.attach_error(process.pid)
            finally:
                process.terminate()

    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        program = shutil.copy(shutil.which("sleep") or "", directory)
        Path(program).chmod(0o4755)
        assert "is a set-user-ID program of root: trace it as root" in as_nobody(error)


def test_attach_error_names_a_protected_process() -> None:
    """A process that has changed its IDs, or that called prctl(PR_SET_DUMPABLE)."""
    assert "is protected (PR_SET_DUMPABLE, " in as_nobody(
        lambda: str(libc.prctl(4, 0, 0, 0, 0)) + ptrace.attach_error(os.getpid())
    )


def test_no_attach_error_for_a_thread_that_has_ended() -> None:
    assert ptrace.attach_error(2**22 + 1) == ""
    with subprocess.Popen(["true"]) as process:
        while "State:\tZ" not in Path(f"/proc/{process.pid}/status").read_text():
            pass
        assert ptrace.attach_error(process.pid) == ""
