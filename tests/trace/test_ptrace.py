# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

from pyvmm.errors import Status

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
