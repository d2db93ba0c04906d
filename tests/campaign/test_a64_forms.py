# SPDX-License-Identifier: GPL-2.0-only
"""The forms include every A64 load and store that Capstone knows, but SVE's and SME's."""

import itertools
import random

import pytest

from tests.campaign.a64_forms import FORMS

PLAIN = """
    ld1 ld2 ld3 ld4 ld1r ld2r ld3r ld4r st1 st2 st3 st4
    ldr ldrb ldrh ldrsb ldrsh ldrsw ldur ldurb ldurh ldursb ldursh ldursw
    str strb strh stur sturb sturh ldp ldpsw stp ldnp stnp prfm prfum
    ldtr ldtrb ldtrh ldtrsb ldtrsh ldtrsw sttr sttrb sttrh ldraa ldrab
    ldxr ldxrb ldxrh ldaxr ldaxrb ldaxrh ldxp ldaxp stxp stlxp
    stxr stxrb stxrh stlxr stlxrb stlxrh ldar ldarb ldarh ldlar ldlarb ldlarh
    stlr stlrb stlrh stllr stllrb stllrh ldapr ldaprb ldaprh
    ldapur ldapurb ldapurh ldapursb ldapursh ldapursw stlur stlurb stlurh
    ldg ldgm stg stgm st2g stzg stz2g stzgm ld64b st64b st64bv st64bv0 dc
    cpyfp cpyfm cpyfe cpyp cpym cpye setp setm sete setgp setgm setge
"""
ATOMICS = "cas swp ldadd ldclr ldeor ldset ldsmax ldsmin ldumax ldumin"
ORDERS = ("", "a", "l", "al")
MNEMONICS = {
    *PLAIN.split(),
    *(f"casp{order}" for order in ORDERS),
    *(
        f"{operation}{order}{size}"
        for operation, order, size in itertools.product(ATOMICS.split(), ORDERS, ("", "b", "h"))
    ),
}


def test_every_mnemonic_is_generated() -> None:
    capstone = pytest.importorskip("capstone", reason="pip install capstone")
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    chance = random.Random(0)
    code = b"".join(form.word(chance, 1, 2).to_bytes(4, "little") for form in FORMS * 30)
    disassembler.skipdata = True
    generated = {mnemonic for _, _, mnemonic, _ in disassembler.disasm_lite(code, 0)}
    assert MNEMONICS - generated == set()
