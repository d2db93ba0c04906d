# SPDX-License-Identifier: GPL-2.0-only
"""libclang reads the definitions of a header for one architecture."""

from pathlib import Path

import pytest

from pyvmm.uapi.header_tree import find
from pyvmm.uapi.model import Constant, Header, HeaderError, IoctlDefinition, Member, StructLayout

pytestmark = pytest.mark.usefixtures("libclang")

TREE = {
    "linux/version.h": "#define LINUX_VERSION_CODE 459276",
    "asm/types.h": "typedef unsigned int __u32; typedef unsigned long long __u64;",
    "asm/kvm.h": "struct arch { __u32 only_here; };\n#define FROM_ASM 5",
    "linux/kvm.h": """
        #include <asm/types.h>
        #include <asm/kvm.h>
        #define _IO(t, n) (((t) << 8) | (n))
        #define _IOW(t, n, s) ((1U << 30) | (sizeof(s) << 16) | _IO(t, n))
        #define DECIMAL 10
        #define BIT (1UL << 3)
        #define TOP 0xff00000000000000ULL
        #define NEGATIVE (-1)
        #define ALIAS DECIMAL
        #define TEXT "no number"
        #define TAKES(x) (x)
        #define EMPTY
        #define FOREIGN sizeof(struct elsewhere)
        enum named { FIRST, SECOND = 0x10 };
        struct flexible { __u32 count; struct { struct { } __empty_items; __u64 items[]; }; };
        struct example {
            char text[3][2];
            void *where;
            union { __u32 plain; struct { unsigned char a:3, b:5; }; };
            union { __u64 whole; struct { __u32 low, high; } half; } u[2];
            struct arch arch;
            long __reserved;
        };
        #define RUN _IO(0xAE, 0x80)
        #define SET _IOW(0xAE, 0x46, struct example)
        #define SCALAR _IOW(0xAE, 0x47, __u64)
        #define ELSEWHERE _IOW(0xAE, 0x48, struct elsewhere)
    """,
}


def read(directory: Path, header: str, architecture: str) -> Header:
    from pyvmm.uapi import headers  # which needs libclang

    return headers.read(find(directory, architecture), header)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "include" / name).write_text(text)
    return tmp_path


@pytest.fixture
def header(libclang: None, tree: Path) -> Header:
    return read(tree, "linux/kvm.h", "arm64")


def test_version(header: Header) -> None:
    assert header.version == "7.2.12"


def test_constants_are_the_macros_and_enums_with_an_integer_value(header: Header) -> None:
    assert [(c.name, c.value) for c in header.constants.values()] == [
        ("DECIMAL", 10),
        ("BIT", 8),
        ("TOP", 0xFF00000000000000),
        ("NEGATIVE", -1),
        ("ALIAS", 10),
        ("FIRST", 0),
        ("SECOND", 16),
        ("FROM_ASM", 5),
    ]


def test_a_constant_keeps_its_spelling_and_does_not_compare_it(header: Header) -> None:
    assert header.constants["BIT"].text == "(1UL<<3)"
    assert header.constants["SECOND"].text == "0x10"
    assert header.constants["BIT"] == Constant("BIT", 8, "8")


def test_structs_follow_the_structs_of_their_members(header: Header) -> None:
    assert list(header.structs) == ["flexible", "example_u_half", "example_u", "arch", "example"]


def test_struct(header: Header) -> None:
    assert header.structs["example"] == StructLayout(
        "example",
        56,
        (
            Member("text", "u8", (3, 2), 0),
            Member("where", "ptr", (), 8),
            Member("plain", "u32", (), 16),
            Member("a", "u8", (), 16, bit=0, width=3),
            Member("b", "u8", (), 16, bit=3, width=5),
            Member("u", "example_u", (2,), 24),
            Member("arch", "arch", (), 40),
            Member("__reserved", "s64", (), 48),
        ),
    )


def test_flexible_array(header: Header) -> None:
    members = (Member("count", "u32", (), 0), Member("items", "u64", (0,), 8))
    assert header.structs["flexible"] == StructLayout("flexible", 8, members)


def test_ioctls_are_those_whose_argument_is_known(header: Header) -> None:
    assert header.ioctls == {
        "RUN": IoctlDefinition("RUN", 0xAE80, None),
        "SET": IoctlDefinition("SET", 0x4038AE46, "example"),
        "SCALAR": IoctlDefinition("SCALAR", 0x4008AE47, "u64"),
    }


def test_a_header_that_does_not_compile(tree: Path) -> None:
    (tree / "include/linux/kvm.h").write_text("struct broken { nonsense member; };")
    with pytest.raises(HeaderError, match=r"does not compile for arm64: .*nonsense"):
        read(tree, "linux/kvm.h", "arm64")


def test_a_missing_header(tree: Path) -> None:
    with pytest.raises(HeaderError, match=r"linux/vfio\.h"):
        read(tree, "linux/vfio.h", "arm64")


def test_a_kernel_tree_reads_like_its_installed_headers(tmp_path: Path) -> None:
    files = {
        "Makefile": "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\n",
        "arch/arm64/include/uapi/asm/kvm.h": """
            #include <linux/stddef.h>
            #include <asm/types.h>
            struct tags { void __user *addr; __u32 length; } __packed;
        """,
        "include/uapi/asm-generic/types.h": "typedef unsigned int __u32;",
        "include/uapi/linux/stddef.h": """
            #include <linux/compiler_types.h>
            #ifdef __KERNEL__
            #error not for user space
            #endif
        """,
        "include/uapi/linux/kvm.h": "#include <linux/compiler.h>\n#include <asm/kvm.h>",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read(tmp_path, "linux/kvm.h", "arm64").structs == {
        "tags": StructLayout(
            "tags", 12, (Member("addr", "ptr", (), 0), Member("length", "u32", (), 8))
        )
    }
