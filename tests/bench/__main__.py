# SPDX-License-Identifier: GPL-2.0-only
"""Benchmarks: ``python -m tests.bench [NAME…]``. They print ratios and assert nothing.

Contenders run interleaved for several rounds, so other load on the machine slows all of them, and
the medians are printed.
"""

import importlib
import sys
from pathlib import Path

BENCHMARKS = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem[0] != "_")

for name in sys.argv[1:] or BENCHMARKS:
    module = importlib.import_module(f"tests.bench.{name}")
    print(f"{name}: {(module.__doc__ or '').splitlines()[0]}")
    for line in module.main():
        print(f"  {line}", flush=True)
