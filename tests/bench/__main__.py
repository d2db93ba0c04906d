# SPDX-License-Identifier: GPL-2.0-only
"""Benchmarks: ``python -m tests.bench [--json] [NAME…]``. They print ratios and assert nothing.

Contenders run interleaved for several rounds, so other load on the machine slows all of them, and
the medians are printed. ``pyvmm html FILE… -o PAGE`` draws the figures of several ``--json`` files.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = "pyvmm.bench/1"
DIRECTORY = Path(__file__).parent
BENCHMARKS = sorted(path.stem for path in DIRECTORY.glob("*.py") if path.stem[0] != "_")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA}) as well")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    args = parser.parse_args()
    out = sys.stderr if args.json else sys.stdout
    figures: list[dict[str, Any]] = []
    for name in args.names or BENCHMARKS:
        module = importlib.import_module(f"tests.bench.{name}")
        print(f"{name}: {(module.__doc__ or '').splitlines()[0]}", file=out)
        for figure in module.main():
            print(f"  {figure}", file=out, flush=True)
            figures.append({"benchmark": name, **vars(figure)})
    if args.json:
        print(json.dumps(document(figures), indent=1))


def document(figures: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "host": {
            "kernel": platform.release(),
            "arch": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "figures": figures,
    }


def revision() -> str | None:
    """Return git's name for the checkout, or None without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=DIRECTORY)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


if __name__ == "__main__":
    main()
