# SPDX-License-Identifier: GPL-2.0-only
"""The memory instructions of the A64 instruction set: decode, list accesses, execute.

`decode` turns an instruction word into an operation. The operation lists its `Access`es for given
register values, and `execute` performs it as the CPU would have done without the fault.
"""
