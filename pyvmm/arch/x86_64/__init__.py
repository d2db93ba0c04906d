# SPDX-License-Identifier: GPL-2.0-only
"""x86-64: registers, vCPU initialization, long mode, page tables."""
