# SPDX-License-Identifier: GPL-2.0-only
"""Payloads that are copied field by field, and those with a decoding of their own."""

import pytest

from pyvmm.kvm import exits
from pyvmm.kvm.exits import Exit, decode, foreign
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native_arch import kvm_run
from tests.kvm.exits.shared import shared

ARGS = (1, 2, 3, 4, 5, 6)

# The exit, where its payload is, what is there.
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
    (foreign.S390Sieic(1, 2, 3), "s390_sieic", {"icptcode": 1, "ipa": 2, "ipb": 3}),
    (foreign.S390Reset(5), "", {"s390_reset_flags": 5}),
    (foreign.S390Ucontrol(1, 2), "s390_ucontrol", {"trans_exc_code": 1, "pgm_code": 2}),
    (
        foreign.S390Tsch(1, 2, 3, 4, 5, 6),
        "s390_tsch",
        {
            "subchannel_id": 1,
            "subchannel_nr": 2,
            "io_int_parm": 3,
            "io_int_word": 4,
            "ipb": 5,
            "dequeued": 6,
        },
    ),
    (
        foreign.S390Stsi(1, 2, 3, 4, 5),
        "s390_stsi",
        {"addr": 1, "ar": 2, "fc": 3, "sel1": 4, "sel2": 5},
    ),
    (foreign.Dcr(1, 2, 1), "dcr", {"dcrn": 1, "data": 2, "is_write": 1}),
    (foreign.Osi(tuple(range(32))), "osi", {"gprs": tuple(range(32))}),
    (foreign.PaprHcall(1, tuple(range(9))), "papr_hcall", {"nr": 1, "args": tuple(range(9))}),
    (foreign.Epr(7), "epr", {"epr": 7}),
    (
        foreign.LoongarchIocsr(1, 2, True, 0x201),
        "iocsr_io",
        {"phys_addr": 1, "len": 2, "is_write": 1, "data": b"\1\2\3"},
    ),
    (
        foreign.RiscvSbi(1, 2, ARGS),
        "riscv_sbi",
        {"extension_id": 1, "function_id": 2, "args": ARGS},
    ),
    (
        foreign.RiscvCsr(1, 2, 3),
        "riscv_csr",
        {"csr_num": 1, "new_value": 2, "write_mask": 3},
    ),
]


@pytest.mark.parametrize(
    ("exit", "payload", "members"), CASES, ids=[type(case[0]).__name__ for case in CASES]
)
def test_payload(exit: Exit, payload: str, members: dict[str, object]) -> None:
    assert decode(shared(exit.reason, payload, **members)) == exit


@pytest.mark.parametrize(
    ("size", "flags", "found"),
    [(2, 1, b"\x0f\x0b"), (15, 1, b"\x0f\x0b" + bytes(13)), (99, 1, b"\x0f\x0b" + bytes(13)),
     (2, 0, b"")],
    ids=["2 bytes", "15 bytes", "more than there are", "not told"],
)  # fmt: skip
def test_the_instruction_that_could_not_be_emulated(size: int, flags: int, found: bytes) -> None:
    told = shared(
        uapi.KVM_EXIT_INTERNAL_ERROR,
        "emulation_failure",
        suberror=uapi.KVM_INTERNAL_ERROR_EMULATION,
        ndata=4,
        flags=flags,
        insn_size=size,
        insn_bytes=b"\x0f\x0b",
    )
    error = decode(told)
    assert isinstance(error, exits.InternalError)
    assert error.instruction == found
    assert len(error.data) == 4


def test_no_instruction_where_the_error_is_another() -> None:
    told = shared(uapi.KVM_EXIT_INTERNAL_ERROR, "internal", suberror=4, ndata=2, data=(1, 2, 3))
    assert decode(told) == exits.InternalError(4, (1, 2), b"")


def test_a_debug_exit_has_the_architectures_fields() -> None:
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
def test_those_with_a_type_of_their_own(reason: int, payload: str, type: type[Exit]) -> None:
    exit = decode(shared(reason, payload, type=1))
    assert isinstance(exit, type)
    assert vars(exit)["type"] == 1


def test_a_tdx_exit_keeps_its_bytes() -> None:
    exit = decode(shared(uapi.KVM_EXIT_TDX, "tdx", flags=1, nr=0x10001))
    assert isinstance(exit, exits.Tdx)
    assert (exit.flags, exit.nr, len(exit.raw)) == (1, 0x10001, 64)
