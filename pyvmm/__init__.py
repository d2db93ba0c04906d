# SPDX-License-Identifier: GPL-2.0-only
"""pyvmm: a userspace VMM for the people who write and review KVM memory uAPI."""

__version__ = "0.1.0"
