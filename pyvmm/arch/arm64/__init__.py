# SPDX-License-Identifier: GPL-2.0-only
"""AArch64: registers, vCPU set-up, the stage-1 walk, decoding an access, CPU features."""
