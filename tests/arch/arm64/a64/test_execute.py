# SPDX-License-Identifier: GPL-2.0-only
"""Decoding, accesses and execution, compared with Unicorn: every byte and every register."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.execute import execute
from pyvmm.arch.arm64.a64.operation import (
    AddressingMode,
    Atomic,
    AtomicFunction,
    CompareAndSwap,
    Index,
    Maintenance,
    NoAccess,
    Operation,
    Transfer,
    Undecodable,
    ZeroBlock,
)
from tests.arch.arm64.a64.oracle import ARENA, ARENA_SIZE, CODE, DATA, STORES, Oracle, OracleRun

MAPPED = range(ARENA, ARENA + ARENA_SIZE - 0x1000)


@dataclass
class Buffer:
    """Memory with the initial contents of the oracle's."""

    data: bytearray

    def read(self, va: int, size: int) -> bytes:
        return bytes(self.data[va - ARENA :][:size])

    def write(self, va: int, data: bytes) -> None:
        self.data[va - ARENA : va - ARENA + len(data)] = data


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


def arrange(operation: Operation, chance: random.Random, oracle: Oracle) -> dict[str, int]:
    """Return random registers that put the operation's address near `DATA`."""
    registers = {f"x{n}": chance.getrandbits(64) for n in range(31)}
    registers |= {f"v{n}": chance.getrandbits(128) for n in range(32)}
    place = DATA + chance.randrange(-0x800, 0x800)
    registers |= {"sp_el1": place & ~0xF, "pc": CODE, "pstate": 0b0101} | oracle.constants
    match operation:
        case ZeroBlock(register) | Maintenance(_, register):
            registers[register] = place
        case Transfer(address, exclusive=False):
            _aim(address, place, chance, registers)
        case Transfer(address) | Atomic(address) | CompareAndSwap(address):
            # Unaligned, these are alignment faults.
            _aim(address, place & ~0xF, chance, registers)
    if isinstance(operation, CompareAndSwap) and chance.random() < 0.7:
        _make_equal(operation, registers, oracle)
    return registers


def _aim(
    address: AddressingMode, place: int, chance: random.Random, registers: dict[str, int]
) -> None:
    base = "sp_el1" if address.base == "sp" else address.base
    index = address.offset
    if isinstance(index, Index) and index.register == base:
        place //= 1 + (1 << index.shift)
    elif isinstance(index, Index) and index.register != "xzr":
        low = chance.getrandbits(index.width) if not index.signed else chance.randrange(-512, 512)
        upper = chance.getrandbits(32) << 32 if index.width == 32 else 0
        if index.signed or chance.random() < 0.5:
            low = low % 512 if not index.signed else low
            registers[index.register] = upper | low & ((1 << index.width) - 1)
        else:
            # Any offset; the base compensates for it.
            registers[index.register] = upper | low
            if address.indexing.name == "OFFSET":
                place -= low << index.shift
    if base != "pc":
        registers[base] = place & ((1 << 64) - 1)


def _make_equal(operation: CompareAndSwap, registers: dict[str, int], oracle: Oracle) -> None:
    va = operation.address.va(registers)
    for n, name in enumerate(operation.compare):
        if name not in ("xzr", operation.address.base):
            at = va + n * operation.size - ARENA
            found = int.from_bytes(oracle.pattern[at : at + operation.size], "little")
            high = registers[name] >> operation.size * 8 << operation.size * 8
            registers[name] = high | found


def monitor(word: int) -> int:
    """Return the LDXR or LDXP (of zr) that lets the store-exclusive `word` succeed."""
    return word & ~(0x1F << 16 | 0x1F << 10 | 0x1F) | 1 << 22 | 0x1F << 16 | 0x1E << 10 | 0x1F


def agree(word: int, seed: int, oracle: Oracle) -> None:
    """Assert that `execute` and the oracle agree."""
    operation = decode(word)
    assert not isinstance(operation, NoAccess | Undecodable), operation
    registers = arrange(operation, random.Random(seed), oracle)
    accesses = operation.accesses(registers)
    # Some cannot be aimed: DC ZVA of xzr, or LDR x0, [x1], x1.
    assume(all(access.va in MAPPED for access in accesses))
    store_exclusive = isinstance(operation, Transfer) and operation.status
    ran = oracle.run(word, registers, before=monitor(word) if store_exclusive else None)
    assert not ran.refused
    _assert_same_accesses(operation, accesses, ran)
    memory = Buffer(bytearray(oracle.pattern))
    memory.write(CODE, word.to_bytes(4, "little"))  # a literal may be the instruction itself
    changed = registers | execute(operation, registers, memory)
    for name, held in ran.registers.items():
        assert changed[name] == held, name
    if not _is_narrow_extreme(operation):
        assert memory.data[STORES.start - ARENA : STORES.stop - ARENA] == ran.memory


def _is_narrow_extreme(operation: Operation) -> bool:
    """Return True for a signed minimum or maximum of less than 64 bits.

    Unicorn 2.1 compares these unsigned, as QEMU did until commit "target/arm: Mark LDS{MIN,MAX}
    as signed operations" (2021). `test_extremes` checks them without the oracle.
    """
    extremes = (AtomicFunction.SIGNED_MAX, AtomicFunction.SIGNED_MIN)
    return isinstance(operation, Atomic) and operation.function in extremes and operation.size < 8


def _assert_same_accesses(operation: Operation, accesses: list[Access], ran: OracleRun) -> None:
    expected: dict[Kind, set[int]] = {kind: set() for kind in Kind}
    for access in accesses:
        expected[access.kind].update(range(access.va, access.va + access.size))
    read, written = ran.read, ran.written
    if isinstance(operation, Transfer) and operation.status:
        read = set()  # the oracle implements it as compare and swap
    if isinstance(operation, CompareAndSwap) and not written:
        written = expected[Kind.WRITE]  # the comparison failed
    assert (read, written) == (expected[Kind.READ], expected[Kind.WRITE])


# Encoding groups of DDI 0487, C4.1.94, with "x" where any bit may be.
GROUPS = {
    "structures": "0x001100 x0xxxxxx xxxxxxxx xxxxxxxx",
    "structures, post-indexed": "0x001100 1x0xxxxx xxxxxxxx xxxxxxxx",
    "one structure": "0x001101 0xx00000 xxxxxxxx xxxxxxxx",
    "one structure, post-indexed": "0x001101 1xxxxxxx xxxxxxxx xxxxxxxx",
    "exclusive": "xx001000 0x0xxxxx xxxxxxxx xxxxxxxx",
    "exclusive pair": "1x001000 0x1xxxxx xxxxxxxx xxxxxxxx",
    "ordered": "xx001000 1x0xxxxx xxxxxxxx xxxxxxxx",
    "compare and swap": "xx001000 1x1xxxxx x11111xx xxxxxxxx",
    "compare and swap pair": "0x001000 0x1xxxx0 x11111xx xxxxxxx0",
    "ordered, unscaled": "xx011001 xx0xxxxx xxxx00xx xxxxxxxx",
    "literal": "xx011x00 xxxxxxxx xxxxxxxx xxxxxxxx",
    "pair": "xx101x0x xxxxxxxx xxxxxxxx xxxxxxxx",
    "nine-bit offset": "xx111x00 xx0xxxxx xxxxxxxx xxxxxxxx",
    "register offset": "xx111x00 xx1xxxxx x1xx10xx xxxxxxxx",
    "unsigned offset": "xx111x01 xxxxxxxx xxxxxxxx xxxxxxxx",
    "atomic": "xx111000 xx1xxxxx 0xxx00xx xxxxxxxx",
    "swap": "xx111000 xx1xxxxx 100000xx xxxxxxxx",
    "ordered, RCpc": "xx111000 10111111 110000xx xxxxxxxx",
    "zero block": "11010101 00001011 01110100 001xxxxx",
    "clean and invalidate": "11010101 00001011 01111110 001xxxxx",
}


def words(pattern: str) -> st.SearchStrategy[int]:
    """Return a strategy for the instructions of a group."""
    pattern = pattern.replace(" ", "")
    fixed = int(pattern.replace("x", "0"), 2)
    free = int(pattern.replace("1", "0").replace("x", "1"), 2)
    return st.integers(0, (1 << 32) - 1).map(lambda noise: fixed | noise & free)


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=50, deadline=None)
@given(data=st.data(), seed=st.integers(0, (1 << 32) - 1))
def test_execute_agrees_with_the_oracle(
    group: str, data: st.DataObject, seed: int, oracle: Oracle
) -> None:
    word = data.draw(words(GROUPS[group]))
    assume(not isinstance(decode(word), NoAccess | Undecodable))
    agree(word, seed, oracle)


def doubleword(number: int) -> Buffer:
    """Return memory with `number` at `DATA`."""
    buffer = Buffer(bytearray(DATA - ARENA + 64))
    buffer.write(DATA, number.to_bytes(8, "little"))
    return buffer


@pytest.mark.parametrize(
    ("word", "old", "operand", "new"),
    [
        (0x38224023, 0x80, 0x7F, 0x7F),  # ldsmaxb w2, w3, [x1]
        (0x38224023, 0xFF, 0x1FE, 0xFF),
        (0x78224023, 0x7FFF, 0x8000, 0x7FFF),  # ldsmaxh
        (0xB8224023, 0x8000_0000, 1, 1),  # ldsmax w
        (0x38225023, 0x80, 0x7F, 0x80),  # ldsminb
        (0x78225023, 0x7FFF, 0x8000, 0x8000),  # ldsminh
        (0xB8225023, 5, 0xFFFF_FFFF, 0xFFFF_FFFF),  # ldsmin w
        (0x38226023, 0x80, 0x17F, 0x80),  # ldumaxb
        (0xB8226023, 5, 0xF_0000_0004, 5),  # ldumax w
        (0x38227023, 0x80, 0x17F, 0x7F),  # lduminb
        (0xB8227023, 5, 0xF_0000_0004, 4),  # ldumin w
    ],
)
def test_minimum_and_maximum(word: int, old: int, operand: int, new: int) -> None:
    memory = doubleword(old)
    operation = decode(word)
    assert isinstance(operation, Atomic)
    changed = execute(operation, {"x1": DATA, "x2": operand, "pc": CODE}, memory)
    assert changed == {"x3": old, "pc": CODE + 4}
    assert int.from_bytes(memory.read(DATA, 8), "little") == new


BYTES = bytes(range(0x80, 0xC0))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0xB9400023, {"x3": 0x80818283}),  # ldr w3, [x1]
        (0xB9800023, {"x3": 0xFFFF_FFFF_8081_8283}),  # ldrsw x3, [x1]
        (0xA9401023, {"x3": 0x8081828384858687, "x4": 0x88898A8B8C8D8E8F}),  # ldp x3, x4, [x1]
        (0xC87F1023, {"x3": 0x8081828384858687, "x4": 0x88898A8B8C8D8E8F}),  # ldxp x3, x4, [x1]
        (0x3DC00023, {"v3": 0x808182838485868788898A8B8C8D8E8F}),  # ldr q3, [x1]
        (0x4C407823, {"v3": 0x8C8D8E8F_88898A8B_84858687_80818283}),  # ld1 {v3.4s}, [x1]
    ],
)
def test_big_endian_data(word: int, expected: dict[str, int]) -> None:
    operation = decode(word)
    assert not isinstance(operation, NoAccess | Undecodable)
    memory = Buffer(bytearray(DATA - ARENA) + BYTES)
    changed = execute(operation, {"x1": DATA, "pc": CODE}, memory, order="big")
    assert changed == expected | {"pc": CODE + 4}


def test_64_bytes() -> None:
    """Check LD64B x2, [x1], which the oracle does not support."""
    operation = decode(0xF83FD022)
    assert isinstance(operation, Transfer)
    memory = Buffer(bytearray(DATA - ARENA) + BYTES)
    changed = execute(operation, {"x1": DATA, "pc": CODE}, memory)
    assert changed.pop("pc") == CODE + 4
    assert b"".join(changed[f"x{n}"].to_bytes(8, "little") for n in range(2, 10)) == BYTES


@pytest.mark.parametrize(
    ("pstate", "name"), [(0b0101, "sp_el1"), (0b0100, "sp_el0"), (0, "sp_el0")]
)
def test_pstate_selects_the_stack_pointer(pstate: int, name: str) -> None:
    operation = decode(0xF84087E3)  # ldr x3, [sp], #8
    assert isinstance(operation, Transfer)
    registers = {name: DATA, "pc": CODE, "pstate": pstate}
    changed = execute(operation, registers, doubleword(5))
    assert changed == {"x3": 5, name: DATA + 8, "pc": CODE + 4}


def test_an_exception_from_memory_propagates() -> None:
    class Broken(Buffer):
        def read(self, va: int, size: int) -> bytes:
            raise OSError(va, "unreadable")

    operation = decode(0xF9400023)  # ldr x3, [x1]
    assert isinstance(operation, Transfer)
    with pytest.raises(OSError, match="unreadable"):
        execute(operation, {"x1": DATA, "pc": CODE}, Broken(bytearray()))
