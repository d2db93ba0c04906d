# SPDX-License-Identifier: GPL-2.0-only
"""Payloads: small guests in assembly, assembled with GNU binutils, and their argument blocks.

A payload is a flat binary that is entered at its first byte. The VMM loads it at any page-aligned
GPA, into memory that is readable, writable and executable, so it must be position independent.
The state on entry:

==================  ===============================  ========================================
                    arm64                            x86_64
==================  ===============================  ========================================
CPU                 EL1h, interrupts masked,         64-bit long mode, interrupts masked,
                    MMU on or off                    identity mapped, no stack, no IDT
console             ``x0``: GPA of a register;       ``rdi``: I/O port; a byte written to it
                    a byte stored to it is printed   is printed
argument block      ``x1``: GPA                      ``rsi``: GPA
end of the payload  PSCI ``SYSTEM_OFF`` by ``hvc``   ``hlt``
==================  ===============================  ========================================

The payload's Python module defines the argument block, into which the payload may also write its
results: `pyvmm.guest.probe` for ``probe``, `pyvmm.guest.snippet` for ``snippet``, and
`pyvmm.guest.repeat` for ``exits`` and ``loads``.
"""
