# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

PROGRAM = """
from tests.campaign import block_coverage
block_coverage.install()
from pyvmm.vfio.bdf import Bdf
from pyvmm.errors import UsageError
print(sum(block_coverage.executed()))
Bdf.parse("0000:01:00.0")
valid = block_coverage.executed()
print(sum(valid))
Bdf.parse("0000:02:00.0")
print(int(block_coverage.has_changed(valid)))
try:
    Bdf.parse("x")
except UsageError:
    print(int(block_coverage.has_changed(valid)))
block_coverage.clear()
print(sum(block_coverage.executed()))
"""


def test_new_blocks_are_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    at_import, valid, again, invalid, cleared = map(int, done.stdout.split())
    assert (at_import, again, invalid, cleared) == (0, 0, 1, 0)
    assert valid > 0
