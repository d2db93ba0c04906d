# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm.provoke.forked import in_child
from pyvmm.provoke.testbed import Failure
from tests.process import open_fds

FAILURE = Failure("KVM_RUN", "EIO", "vm-dead", "known", "the VM is dead")


def test_the_result_of_another_process() -> None:
    assert in_child(lambda: FAILURE) == FAILURE
    pid = os.getpid()
    assert in_child(lambda: None if os.getpid() == pid else FAILURE) == FAILURE


def test_no_failure() -> None:
    assert in_child(lambda: None) is None


def test_a_process_that_ends_without_a_result() -> None:
    with pytest.raises(ChildProcessError, match="without a result"):
        in_child(lambda: os._exit(0))


def test_no_descriptor_is_left() -> None:
    before = open_fds()
    in_child(lambda: FAILURE)
    assert open_fds() == before
