# SPDX-License-Identifier: GPL-2.0-only
"""The options ``--html`` and ``--earlier`` of several commands: write an HTML page."""

import argparse
from pathlib import Path

from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write the result as a self-contained HTML page as well",
    )
    add_earlier(parser)


def add_earlier(parser: argparse.ArgumentParser) -> None:
    """Add ``--earlier`` alone."""
    parser.add_argument(
        "--earlier",
        type=Path,
        metavar="FILE",
        help="show on the HTML page what changed since this JSON document of an earlier run",
    )


def html_file(args: argparse.Namespace, schema: str) -> ReportFile | None:
    """Return the file to write the page of a document to, or None without ``--html``.

    Raises `UsageError` or `LackingError` before the command runs.
    """
    if args.html is None:
        if args.earlier:
            raise UsageError("--earlier has no effect without --html FILE: add that")
        return None
    from pyvmm import pages

    pages.check_installed()
    earlier = pages.read(args.earlier) if args.earlier else None
    if earlier:
        pages.check_earlier(earlier, schema)
    return ReportFile(args.html, lambda document: pages.render([document], earlier))
