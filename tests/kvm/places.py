# SPDX-License-Identifier: GPL-2.0-only
"""Where the tests' guests find things, as GPAs, on both architectures."""

MEMORY_GPA = 0x1_0000_0000  # above the machine's RAM
DEVICE_GPA = 0x0A00_0000
WINDOW = 1 << 20  # bytes of either
