# SPDX-License-Identifier: GPL-2.0-only
"""Payloads: small guests in assembly, assembled with GNU binutils, and what they are handed.

A payload is a flat binary, entered at its first byte. It lies at a page-aligned GPA of the
VMM's choosing, in memory that it may read, write and execute, and knows neither in advance:
it is position independent. What it finds on entry:

==================  ===============================  ========================================
                    arm64                            x86_64
==================  ===============================  ========================================
state               EL1h, interrupts masked,         64-bit long mode, interrupts masked,
                    MMU on or off                    identity mapped, no stack, no IDT
console             ``x0``: GPA of a register;       ``rdi``: I/O port; a byte written to it
                    a byte stored to it is printed   is printed
argument block      ``x1``: GPA                      ``rsi``: GPA
its end             PSCI ``SYSTEM_OFF`` by ``hvc``   ``hlt``
==================  ===============================  ========================================

The argument block belongs to the payload's Python side: `pyvmm.guest.probe` for ``probe``,
`pyvmm.guest.repeat` for ``exits`` and ``loads``. A payload may answer in it.

x86_64 payloads written with ``.code16`` or ``.code32`` are entered in real or 32-bit protected
mode. There CS, DS and SS have their base at the payload's first byte, so that labels, counted
from 0, are right wherever it lies; ES has base 0, so that GPAs go through it. The console and
the argument block are in ``edi`` and ``esi``, and ``hlt`` ends the payload as well.
"""
