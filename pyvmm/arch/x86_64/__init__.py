# SPDX-License-Identifier: GPL-2.0-only
"""x86-64: registers, the modes that a vCPU can start in, page tables."""
