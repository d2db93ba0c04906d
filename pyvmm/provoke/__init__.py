# SPDX-License-Identifier: GPL-2.0-only
"""Provoke every fault that pyvmm can name, and see what this kernel says and what helps.

testbed         a machine with memory to break, and a guest to touch it
raw           changing mappings behind everyone's back
memory        what can happen to ordinary memory
instructions  what depends on the guest's instruction (arm64)
devices       what can happen to a device's memory
run           all of them, one after the other
"""
