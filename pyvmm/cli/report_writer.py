# SPDX-License-Identifier: GPL-2.0-only
"""Writes the report for a process that cannot, since it entered the sandbox."""

import json
from typing import Any

from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import LackingError
from pyvmm.helper_process import HelperProcess


class ReportWriter:
    """A helper process that receives a document and writes it to a report file.

    If this process ends before `save`, the helper process writes nothing.
    """

    def __init__(self, report: ReportFile) -> None:
        """Fork the process."""
        # If this process ended early, json.loads raises an exception.
        self._process = HelperProcess(lambda text: report.save(json.loads(text)))

    def save(self, document: dict[str, Any]) -> None:
        """Let the process write `document`, and wait for it. Raises `LackingError`."""
        if error := self._process.finish(json.dumps(document).encode()):
            raise LackingError(error)
