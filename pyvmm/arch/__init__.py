# SPDX-License-Identifier: GPL-2.0-only
"""Everything that depends on the guest's architecture: arm64 and x86-64."""
