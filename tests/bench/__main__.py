# SPDX-License-Identifier: GPL-2.0-only
"""Time what must stay fast: ``python -m tests.bench [NAME…]``. Prints ratios, asserts nothing.

What is compared runs interleaved, several rounds of each, and the medians are printed: other
load on the machine then slows both sides alike.
"""

import importlib
import sys
from pathlib import Path

BENCHMARKS = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem[0] != "_")

chosen = sys.argv[1:] or BENCHMARKS
for name in chosen:
    module = importlib.import_module(f"tests.bench.{name}")
    print(f"{name}: {(module.__doc__ or '').splitlines()[0]}")
    for line in module.main():
        print(f"  {line}", flush=True)
