# SPDX-License-Identifier: GPL-2.0-only
"""``python -m pyvmm``."""

from pyvmm.cli import main

raise SystemExit(main())
