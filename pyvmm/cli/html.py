# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm html``: render a saved JSON document as an HTML page."""

import argparse
from pathlib import Path

from pyvmm.cli.html_file import add_earlier
from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import Status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm html``."""
    parser.set_defaults(run=run, takes_headers=False)
    parser.description = (
        "Write a self-contained HTML page about a JSON document of lab matrix, provoke, run, caps, "
        "or about the trend of several of make bench. It needs no network and no JavaScript; with "
        "JavaScript, it can be filtered."
    )
    parser.epilog = (
        "Example: python -m pyvmm lab run -- provoke --json >FILE, then "
        "python -m pyvmm html FILE -o PAGE"
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a JSON document; several of make bench, the oldest first",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="PAGE",
        help="the page to write",
    )
    add_earlier(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit status."""
    from pyvmm import pages

    pages.check_installed()
    earlier = pages.read(args.earlier) if args.earlier else None
    page = ReportFile(args.output, lambda sources: pages.render(sources, earlier))
    page.save([pages.read(file) for file in args.files])
    return Status.DONE
