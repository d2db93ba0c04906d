# SPDX-License-Identifier: GPL-2.0-only
"""Every exit has a class, and none is lost."""

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm.exits import (
    EXITS,
    Exit,
    Interrupted,
    MemoryFault,
    RunFailure,
    Unknown,
    decode,
    decode_failure,
)
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_EXIT_IO, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO
from pyvmm.uapi.names import names
from tests.kvm.exits.shared import shared

NAMES = names("KVM_EXIT_")


@pytest.mark.parametrize("reason", NAMES, ids=NAMES.values())
def test_the_headers_exits_are_typed(reason: int) -> None:
    exit = decode(shared(reason))
    assert type(exit).reason == reason
    assert exit.kind == NAMES[reason].removeprefix("KVM_EXIT_").lower()


def test_no_two_share_a_reason() -> None:
    assert len(EXITS) == len(Exit.__subclasses__())


@given(st.integers(max(NAMES) + 1, 2**32 - 1), st.binary(max_size=16))
def test_an_unknown_exit_shows_its_number_and_bytes(reason: int, raw: bytes) -> None:
    exit = decode(shared(reason, padding=raw))
    assert isinstance(exit, Unknown)
    assert exit.number == reason
    assert exit.raw.startswith(raw)
    assert len(exit.raw) == 256
    assert exit.kind == "unknown"


# The sizes and the offset of a port access are the kernel's own, and only those that there are.
@given(st.sampled_from([n for n in NAMES if n != KVM_EXIT_IO]), st.integers(0, 2**32))
def test_no_payload_is_too_wild_to_decode(reason: int, seed: int) -> None:
    raw = random.Random(seed).randbytes(256)
    assert decode(shared(reason, padding=raw)).reason == reason


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_a_signal_is_an_interruption(number: int) -> None:
    assert decode_failure(shared(KVM_EXIT_MMIO), number) == Interrupted()


@pytest.mark.parametrize("number", [errno.EFAULT, EHWPOISON])
def test_a_fault_that_the_kernel_describes(number: int) -> None:
    told = shared(KVM_EXIT_MEMORY_FAULT, "memory_fault", flags=8, gpa=0x1000, size=PAGE_SIZE)
    assert decode_failure(told, number) == MemoryFault(8, 0x1000, PAGE_SIZE, number)


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (0, errno.EFAULT),
        (KVM_EXIT_MMIO, errno.EFAULT),
        (KVM_EXIT_MEMORY_FAULT, errno.ENOSYS),  # stale
        (KVM_EXIT_MEMORY_FAULT, errno.ENOEXEC),
    ],
)
def test_a_failure_that_the_kernel_does_not_describe(reason: int, number: int) -> None:
    failure = decode_failure(shared(reason), number)
    assert failure == RunFailure(number)
    assert failure.kind == "run_failure"
