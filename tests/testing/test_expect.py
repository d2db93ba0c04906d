# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.kvm import Vm, exits
from pyvmm.kvm.exits import Exit
from pyvmm.machine import RAM_BASE
from pyvmm.memory import Mapping
from pyvmm.testing import MemoryFault, Mmio, RunFailure, SystemOff, Unexpected, fails
from pyvmm.testing.expect import Expected, describe

READ = exits.Mmio(gpa=0x9000000, size=4, write=False, value=0)


@pytest.mark.parametrize(
    ("expected", "exit", "matches"),
    [
        (Mmio(), READ, True),
        (Mmio(gpa=0x9000000, write=False), READ, True),
        (Mmio(gpa=0x9000004), READ, False),
        (Mmio(write=True), READ, False),
        (MemoryFault(), READ, False),
        (RunFailure(errno=errno.EFAULT), exits.RunFailure(errno.EFAULT), True),
        (RunFailure(errno=errno.EFAULT), exits.RunFailure(errno.ENOEXEC), False),
        (SystemOff(), exits.Halt(), True),
        (SystemOff(), exits.SystemEvent(1, ()), True),
        (SystemOff(), exits.SystemEvent(2, ()), False),
    ],
)
def test_matching(expected: Expected, exit: Exit, matches: bool) -> None:
    assert expected.matches(exit) == matches


def test_unknown_field() -> None:
    with pytest.raises(TypeError, match="Mmio has no ipa: its fields are gpa, size, write, value"):
        Mmio(ipa=1)


def test_unknown_exit() -> None:
    with pytest.raises(ImportError, match="Mimo"):
        exec("from pyvmm.testing import Mimo")


@pytest.mark.parametrize(
    ("actual", "text"),
    [
        (str(Mmio(gpa=0x9000000, write=True)), "Mmio(gpa=0x9000000, write=True)"),
        (str(RunFailure(errno=errno.EFAULT)), "RunFailure(errno=EFAULT)"),
        (describe(READ), "Mmio(gpa=0x9000000, size=4, write=False, value=0x0)"),
    ],
)
def test_text_of_exits_and_expectations(actual: str, text: str) -> None:
    assert actual == text


def test_expected_failure(vm: Vm, ram: Mapping) -> None:
    with fails(errno.EEXIST, cause="overlap") as failure:
        vm.memslots.add(RAM_BASE, ram)
    assert "overlaps slot 0" in str(failure.error)


@pytest.mark.parametrize(
    ("number", "cause", "message"),
    [
        (errno.EINVAL, None, "expected EINVAL, got .*EEXIST"),
        (errno.EEXIST, "gpa-wraps", "expected the cause gpa-wraps, got overlap: "),
    ],
)
def test_other_failure(vm: Vm, ram: Mapping, number: int, cause: str | None, message: str) -> None:
    with pytest.raises(Unexpected, match=message):
        with fails(number, cause=cause):
            vm.memslots.add(RAM_BASE, ram)


def test_no_failure() -> None:
    with pytest.raises(Unexpected, match="expected EINVAL, but nothing failed"):
        with fails(errno.EINVAL):
            pass


def test_other_exceptions_are_not_suppressed() -> None:
    with pytest.raises(ZeroDivisionError):
        with fails(errno.EINVAL):
            _ = 1 // 0
