# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

PROGRAM = """
from tests.campaign import block_coverage
block_coverage.install()
from pyvmm.vfio.bdf import Bdf
from pyvmm.errors import UsageError
print(block_coverage.count())
Bdf.parse("0000:01:00.0")
valid = block_coverage.count()
Bdf.parse("0000:02:00.0")
print(valid, block_coverage.count() - valid)
try:
    Bdf.parse("x")
except UsageError:
    print(block_coverage.count() - valid)
block_coverage.clear()
print(block_coverage.count())
"""


def test_new_blocks_are_counted_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    at_import, after_one, after_two, after_invalid, cleared = map(int, done.stdout.split())
    assert (at_import, after_two, cleared) == (0, 0, 0)
    assert after_one > 0
    assert after_invalid > 0
