# SPDX-License-Identifier: GPL-2.0-only
"""Every exit reason is decoded to a typed exit."""

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.errno_names import EHWPOISON
from pyvmm.kvm.exits import (
    Exit,
    Interrupted,
    MemoryFault,
    RunFailure,
    Unknown,
    decode,
    decode_failure,
)
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO
from pyvmm.uapi.names import names
from tests.kvm.exits.run_page import run_page

NAMES = names("KVM_EXIT_")


@pytest.mark.parametrize("reason", NAMES, ids=NAMES.values())
def test_every_reason_in_the_headers_has_its_kind(reason: int) -> None:
    exit = decode(run_page(reason))
    assert type(exit).reason == reason
    assert exit.kind == NAMES[reason].removeprefix("KVM_EXIT_").lower()


def test_classes_have_distinct_reasons() -> None:
    reasons = [exit.reason for exit in Exit.__subclasses__()]
    assert len(set(reasons)) == len(reasons)


@given(st.integers(max(NAMES) + 1, 2**32 - 1), st.binary(max_size=16))
def test_unknown_exit_keeps_number_and_bytes(reason: int, raw: bytes) -> None:
    exit = decode(run_page(reason, padding=raw))
    assert isinstance(exit, Unknown)
    assert exit.number == reason
    assert exit.raw.startswith(raw)
    assert len(exit.raw) == 256
    assert exit.kind == "unknown"


# The kernel's payloads are valid, but a traced VMM can write to the page too.
@given(st.sampled_from(sorted(NAMES)), st.integers(0, 2**32))
def test_random_payload_decodes(reason: int, seed: int) -> None:
    raw = random.Random(seed).randbytes(256)
    assert decode(run_page(reason, padding=raw)).reason == reason


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_signal_decodes_as_interrupted(number: int) -> None:
    assert decode_failure(run_page(KVM_EXIT_MMIO), number) == Interrupted()


@pytest.mark.parametrize("number", [errno.EFAULT, EHWPOISON])
def test_memory_fault_with_an_address(number: int) -> None:
    page = run_page(KVM_EXIT_MEMORY_FAULT, "memory_fault", flags=8, gpa=0x1000, size=PAGE_SIZE)
    assert decode_failure(page, number) == MemoryFault(8, 0x1000, PAGE_SIZE, number)


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (0, errno.EFAULT),
        (KVM_EXIT_MMIO, errno.EFAULT),
        (KVM_EXIT_MEMORY_FAULT, errno.ENOSYS),  # stale exit_reason
        (KVM_EXIT_MEMORY_FAULT, errno.ENOEXEC),
    ],
)
def test_failure_without_an_address(reason: int, number: int) -> None:
    failure = decode_failure(run_page(reason), number)
    assert failure == RunFailure(number)
    assert failure.kind == "run_failure"
