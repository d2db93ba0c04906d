# SPDX-License-Identifier: GPL-2.0-only
"""The A64 instruction set, as far as it touches memory: decode an access, and complete it.

The way through it: `decode` makes an operation of an instruction word, the operation and the
registers make `Access`es, and `complete` does what the CPU would have done had they succeeded.
"""
