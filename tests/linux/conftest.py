# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
from collections.abc import Callable

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import package_tree
from pyvmm.lab.apt import no_progress

Dtc = Callable[[bytes, str, str], bytes]


@pytest.fixture(scope="session")
def dtc() -> Dtc:
    """Return a function that converts a device tree with dtc(1), and fails if dtc warns."""
    if "PYVMM_LAB" in os.environ:
        pytest.skip("the lab has no dtc: run pytest outside")
    try:
        command = package_tree.tools(no_progress).command("dtc")
    except LackingError as error:
        pytest.skip(f"cannot get dtc: {error}")

    def convert(source: bytes, source_format: str, result_format: str) -> bytes:
        argv = [*command, "-I", source_format, "-O", result_format, "-"]
        done = subprocess.run(argv, input=source, capture_output=True, check=True)
        assert done.stderr == b""
        return done.stdout

    return convert
