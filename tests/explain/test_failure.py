# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.errno_names import EHWPOISON
from pyvmm.errors import UsageError
from pyvmm.explain.failure import parse

REGION = ["slot=1", "guest_phys_addr=0x1000", "memory_size=4096", "userspace_addr=0x7f0000000000"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("EINVAL", errno.EINVAL), ("22", 22), ("-14", errno.EFAULT), ("EHWPOISON", EHWPOISON)],
)
def test_errno(text: str, number: int) -> None:
    assert parse(["KVM_RUN", f"errno={text}"]).errno == number


def test_requested_memslot() -> None:
    words = ["KVM_SET_USER_MEMORY_REGION", "errno=EINVAL", *REGION, "flags=KVM_MEM_READONLY|1"]
    slot = parse(words).slot()
    assert (slot.number, slot.gpa, slot.size, slot.hva) == (1, 0x1000, 0x1000, 0x7F0000000000)
    assert (slot.flags, slot.readonly, slot.guest_memfd) == (3, True, None)


def test_guest_memfd_flag() -> None:
    words = ["KVM_SET_USER_MEMORY_REGION2", "errno=EINVAL", *REGION, "flags=KVM_MEM_GUEST_MEMFD"]
    assert parse([*words, "guest_memfd_offset=0x2000"]).slot().guest_memfd_offset == 0x2000
    assert parse(words).slot().guest_memfd is not None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["KVM_CREATE_VCPU", "errno=EINVAL"], "cannot explain KVM_CREATE_VCPU"),
        (["KVM_RUN"], "no errno given"),
        (["KVM_RUN", "errno=EODD"], "there is no errno 'EODD'"),
        (["KVM_RUN", "errno=0"], "there is no errno '0'"),
        (["KVM_RUN", "errno=EFAULT", "hva=1"], "KVM_RUN has no hva: it has gpa"),
        (["KVM_RUN", "errno=EFAULT", "gpa"], "'gpa' is not NAME=VALUE"),
        (["KVM_RUN", "errno=EFAULT", "gpa=1", "gpa=2"], "given twice"),
        (["KVM_RUN", "errno=EFAULT", "gpa=here"], "'here' is not a number"),
        (["KVM_RUN", "errno=EFAULT", "gpa=-1"], "does not fit into 64 bits"),
        (["KVM_SET_USER_MEMORY_REGION", "errno=EINVAL", "slot=1"], "needs guest_phys_addr=…"),
        (
            ["KVM_SET_USER_MEMORY_REGION", "errno=EINVAL", *REGION, "guest_memfd=3"],
            "has no guest_memfd",
        ),
    ],
)
def test_malformed_failure(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse(words)


@given(st.lists(st.text("KVM_errno=x01|-", max_size=20), max_size=6))
def test_any_words_are_parsed_or_rejected(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(["KVM_RUN", *words, "?"])
