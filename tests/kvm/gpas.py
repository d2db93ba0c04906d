# SPDX-License-Identifier: GPL-2.0-only
"""GPAs that the guests of these tests use, on both architectures."""

MEMORY_GPA = 0x1_0000_0000  # above the machine's RAM
DEVICE_GPA = 0x0A00_0000
WINDOW = 1 << 20  # bytes mapped at each of them
