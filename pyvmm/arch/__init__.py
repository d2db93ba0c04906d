# SPDX-License-Identifier: GPL-2.0-only
"""The hardware's architecture: it shows here and nowhere else."""
