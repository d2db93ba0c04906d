# SPDX-License-Identifier: GPL-2.0-only
"""A forked process, whose address space is not the one that created the VM."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict

from pyvmm.provoke.testbed import Failure


def in_child(function: Callable[[], Failure | None]) -> Failure | None:
    """Call `function` in a forked process and return its result.

    Raises `ChildProcessError` if the process ends without one.
    """
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        try:
            failure = function()
            os.write(writer, json.dumps(failure and asdict(failure)).encode())
        finally:
            os._exit(0)  # no cleanup: the VM and the files belong to the parent
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        raise ChildProcessError("the forked process ended without a result")
    found = json.loads(answer)
    return found and Failure(**found)
