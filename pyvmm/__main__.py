# SPDX-License-Identifier: GPL-2.0-only
"""The command line, run by ``python -m pyvmm``."""

from pyvmm.cli import main

raise SystemExit(main())
