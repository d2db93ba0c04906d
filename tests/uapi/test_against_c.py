# SPDX-License-Identifier: GPL-2.0-only
"""A C compiler agrees with every size, offset, constant and ioctl number of the generated modules.

The compiler is GCC, native and for the other architecture; libclang generated the modules.
"""

import ctypes
import importlib.util
import keyword
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pyvmm.uapi import kvm_x86_64
from pyvmm.uapi.header_set import MODULES
from pyvmm.uapi.header_tree import find
from pyvmm.uapi.layout import Struct

COMPILERS = {"arm64": "aarch64-linux-gnu-gcc", "x86_64": "x86_64-linux-gnu-gcc"}
CASES = [
    pytest.param(architecture, module, id=f"{module}-{architecture}")
    for module in MODULES
    for architecture in COMPILERS
]


def generated(module: str, architecture: str) -> list[ModuleType]:
    names = (f"pyvmm.uapi.{module}", f"pyvmm.uapi.{module}_{architecture}")
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def structs(modules: list[ModuleType]) -> dict[str, type[Struct]]:
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Struct) and value is not Struct
    }


def c_types(found: dict[str, type[Struct]]) -> Iterator[tuple[str, type[Struct]]]:
    """Yield each struct as C spells it; one without a name is the type of its parent's member."""
    parents = {
        f"{parent}_{member}": (parent, member)
        for parent, cls in found.items()
        for member in cls.members
    }

    def spell(name: str) -> str:
        if name not in parents:
            return f"struct {name}"
        parent, member = parents[name]
        element = "[0]" if "Array" in str(found[parent].__annotations__[member]) else ""
        return f"__typeof__((({spell(parent)} *)0)->{c_name(member)}{element})"

    for name, cls in found.items():
        yield spell(name), cls


def c_name(member: str) -> str:
    """Return the C name of a member that pyvmm.uapi.layout renamed."""
    if keyword.iskeyword(member.removesuffix("_")):
        return member.removesuffix("_")
    return f"_{member}" if member.startswith("_") else member


def facts(modules: list[ModuleType]) -> Iterator[str]:
    """Yield the facts to check as C expressions."""
    for spelled, cls in c_types(structs(modules)):
        yield f"sizeof({spelled}) == {ctypes.sizeof(cls)}"
        for member in cls.members:
            field = getattr(cls, member)
            if field.size >> 16:  # a bit-field: C has no expression for its offset or size
                continue
            yield f"__builtin_offsetof({spelled}, {c_name(member)}) == {field.offset}"
            if field.size:  # else it is a flexible array
                yield f"sizeof((({spelled} *)0)->{c_name(member)}) == {field.size}"
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, int):
                yield f"{name} == {value:d}{'ULL' if value >> 63 == 1 else 'LL'}"


def compile_c(architecture: str, headers: Path, source: str, *options: str) -> str:
    """Compile for an architecture and return the compiler's output and messages."""
    compiler = COMPILERS[architecture]
    if shutil.which(compiler) is None:
        package = compiler.removesuffix("-gcc").replace("_", "-")
        pytest.skip(f"{compiler} is missing: apt install gcc-{package}")
    done = subprocess.run(
        [
            *(compiler, "-x", "c", "-nostdinc", "-w", *options, "-"),
            *(f"-I{path}" for path in find(headers, architecture).paths),
            # arm64's asm/kvm.h uses these two without including them.
            *("-DSZ_64K=0x10000", "-include", "linux/bits.h"),
        ],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("architecture", "module"), CASES)
def test_every_fact_is_true_in_c(architecture: str, module: str, headers: Path) -> None:
    asserted = list(facts(generated(module, architecture)))
    lines = [
        f"#include <{MODULES[module]}>",
        *(f'_Static_assert({fact}, "");' for fact in asserted),
    ]
    assert compile_c(architecture, headers, "\n".join(lines), "-fsyntax-only") == ""
    assert len(asserted) > 300


@pytest.mark.parametrize(("architecture", "module"), CASES)
def test_a_wrong_fact_is_detected(architecture: str, module: str, headers: Path) -> None:
    [name, cls] = next(c_types(structs(generated(module, architecture))))
    fact = f"sizeof({name}) == {ctypes.sizeof(cls) + 1}"
    source = f'#include <{MODULES[module]}>\n_Static_assert({fact}, "");'
    assert "static assertion failed" in compile_c(architecture, headers, source, "-fsyntax-only")


def test_bit_fields_have_their_c_position(headers: Path) -> None:
    """C has no offsetof for a bit-field, so the test sets each alone and compares the bytes."""
    cls = kvm_x86_64.kvm_ioapic_state_redirtbl_fields
    fields = [member for member in cls.members if getattr(cls, member).size >> 16]
    lines = ["#include <linux/kvm.h>"]
    for member in fields:
        type_ = "__typeof__(((struct kvm_ioapic_state *)0)->redirtbl[0].fields)"
        lines.append(f"{type_} set_{member} = {{ .{member} = -1 }};")
    assembly = compile_c("x86_64", headers, "\n".join(lines), "-S", "-o", "-")
    for member in fields:
        body = assembly.partition(f"\nset_{member}:\n")[2].partition("\n\t.globl")[0]
        in_c = b"".join(
            bytes(int(size)) if directive == "zero" else bytes([int(size) & 0xFF])
            for directive, size in re.findall(r"\t\.(byte|zero)\t(-?\d+)", body)
        )
        value = cls()
        setattr(value, member, 0xFF)
        assert in_c == bytes(value), member


@pytest.mark.parametrize(("architecture", "module"), CASES)
def test_no_definition_of_the_header_is_missing(
    architecture: str, module: str, headers: Path
) -> None:
    """Compare with the preprocessor's output, read with regular expressions and not libclang."""
    known = {name for each in generated(module, architecture) for name in vars(each)}
    preprocessed = compile_c(architecture, headers, f"#include <{MODULES[module]}>", "-E", "-dD")
    header = MODULES[module]
    own, file, found = (header, f"asm/{Path(header).name}"), "", []
    for line in preprocessed.splitlines():
        if marker := re.match(r'# \d+ "(.*?)"', line):
            file = marker[1]
        elif file.endswith(own) and (match := re.match(r"(?:struct|#define) (\w+) +(.+)", line)):
            found.append((match[1], match[2]))
    assert len(found) > 50
    missing = [name for name, text in found if name not in known and not foreign(text, known)]
    assert missing == []


def foreign(text: str, known: set[str]) -> bool:
    """Return True if a macro is not a number: a string, the page size, a foreign ioctl."""
    argument = re.search(r"struct (\w+)\)$", text)
    return '"' in text or "PAGE_SIZE" in text or bool(argument and argument[1] not in known)
