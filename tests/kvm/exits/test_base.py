# SPDX-License-Identifier: GPL-2.0-only
"""Payloads copied field by field, and payloads with a decoder of their own."""

import pytest

from pyvmm.kvm import exits
from pyvmm.kvm.exits import Exit, decode
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run
from tests.kvm.exits.run_page import run_page

ARGS = (1, 2, 3, 4, 5, 6)

# The decoded exit, the member of struct kvm_run, the values in it.
CASES = [
    (exits.ArmNisv(7, 0x1000), "arm_nisv", {"esr_iss": 7, "fault_ipa": 0x1000}),
    (exits.ArmLdst64b(7, 0x1000), "arm_nisv", {"esr_iss": 7, "fault_ipa": 0x1000}),
    (exits.ArmSea(1, 2, 3, 4), "arm_sea", {"flags": 1, "esr": 2, "gva": 3, "gpa": 4}),
    (exits.MemoryFault(8, 1, 2), "memory_fault", {"flags": 8, "gpa": 1, "size": 2}),
    (
        exits.FailEntry(3, 1),
        "fail_entry",
        {"hardware_entry_failure_reason": 3, "cpu": 1},
    ),
    (exits.SystemEvent(1, (5, 6)), "system_event", {"type": 1, "ndata": 2, "data": (5, 6, 7)}),
    (exits.SystemEvent(1, (9,) * 16), "system_event", {"type": 1, "ndata": 99, "data": (9,) * 16}),
    (exits.Hypercall(1, ARGS, 2), "hypercall", {"nr": 1, "args": ARGS, "flags": 2}),
    (exits.Notify(1), "notify", {"flags": 1}),
    (exits.X86Rdmsr(0x10, 2), "msr", {"index": 0x10, "reason": 2}),
    (exits.X86Wrmsr(0x10, 2, 3), "msr", {"index": 0x10, "reason": 2, "data": 3}),
    (exits.IoapicEoi(9), "eoi", {"vector": 9}),
    (exits.TprAccess(1, 1), "tpr_access", {"rip": 1, "is_write": 1}),
    (exits.GuestException(13, 2), "ex", {"exception": 13, "error_code": 2}),
    (exits.SnpReqCerts(1, 2, 3), "snp_req_certs", {"gpa": 1, "npages": 2, "ret": 3}),
]


@pytest.mark.parametrize(
    ("exit", "payload", "members"), CASES, ids=[type(case[0]).__name__ for case in CASES]
)
def test_payload(exit: Exit, payload: str, members: dict[str, object]) -> None:
    assert decode(run_page(exit.reason, payload, **members)) == exit


@pytest.mark.parametrize(
    ("size", "flags", "expected"),
    [(2, 1, b"\x0f\x0b"), (15, 1, b"\x0f\x0b" + bytes(13)), (99, 1, b"\x0f\x0b" + bytes(13)),
     (2, 0, b"")],
    ids=["2 bytes", "15 bytes", "size above 15", "no flag"],
)  # fmt: skip
def test_instruction_bytes_of_an_emulation_failure(size: int, flags: int, expected: bytes) -> None:
    page = run_page(
        uapi.KVM_EXIT_INTERNAL_ERROR,
        "emulation_failure",
        suberror=uapi.KVM_INTERNAL_ERROR_EMULATION,
        ndata=4,
        flags=flags,
        insn_size=size,
        insn_bytes=b"\x0f\x0b",
    )
    error = decode(page)
    assert isinstance(error, exits.InternalError)
    assert error.instruction == expected
    assert len(error.data) == 4


def test_no_instruction_bytes_for_other_suberrors() -> None:
    page = run_page(uapi.KVM_EXIT_INTERNAL_ERROR, "internal", suberror=4, ndata=2, data=(1, 2, 3))
    assert decode(page) == exits.InternalError(4, (1, 2), b"")


def test_debug_exit_has_the_fields_of_the_architecture() -> None:
    run = kvm_run(exit_reason=uapi.KVM_EXIT_DEBUG)
    first, *_ = run.debug.arch.members
    setattr(run.debug.arch, first, 5)
    debug = decode(memoryview(bytearray(bytes(run))))
    assert isinstance(debug, exits.Debug)
    assert debug.arch[first] == 5


@pytest.mark.parametrize(
    ("reason", "payload", "type"),
    [
        (uapi.KVM_EXIT_XEN, "xen", exits.Xen),
        (uapi.KVM_EXIT_HYPERV, "hyperv", exits.Hyperv),
    ],
)
def test_exits_with_a_type(reason: int, payload: str, type: type[Exit]) -> None:
    exit = decode(run_page(reason, payload, type=1))
    assert isinstance(exit, type)
    assert vars(exit)["type"] == 1


def test_tdx_exit_keeps_its_union() -> None:
    exit = decode(run_page(uapi.KVM_EXIT_TDX, "tdx", flags=1, nr=0x10001))
    assert isinstance(exit, exits.Tdx)
    assert (exit.flags, exit.nr, len(exit.raw)) == (1, 0x10001, 64)
