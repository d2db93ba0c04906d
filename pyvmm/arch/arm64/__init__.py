# SPDX-License-Identifier: GPL-2.0-only
"""AArch64: registers, vCPU initialization, page tables, the stage-1 walk, A64 emulation."""
