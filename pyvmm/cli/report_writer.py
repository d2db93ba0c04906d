# SPDX-License-Identifier: GPL-2.0-only
"""A process that writes the report for one that cannot, since it entered the sandbox."""

import json
import os
import signal
from typing import Any

from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import LackingError


class ReportWriter:
    """A forked process that waits for a document and writes it to a report file.

    Create it before devices are opened: the process would keep them open. It ends without a report
    when this process ends.
    """

    def __init__(self, report: ReportFile) -> None:
        """Fork the process."""
        document_read, self._document = os.pipe()
        self._error, error_write = os.pipe()
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # sent to the whole process group
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        if not os.fork():
            os.close(self._document)
            os.close(self._error)
            _write(report, document_read, error_write)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(document_read)
        os.close(error_write)

    def save(self, document: dict[str, Any]) -> None:
        """Let the process write `document`, and wait for it. Raises `LackingError`."""
        with os.fdopen(self._document, "w") as pipe:
            json.dump(document, pipe)
        with os.fdopen(self._error) as pipe:
            if error := pipe.read():
                raise LackingError(error)


def _write(report: ReportFile, document: int, error: int) -> None:
    """Write the report once the document is complete, and exit."""
    try:
        with os.fdopen(document) as pipe:
            text = pipe.read()
        report.save(json.loads(text))  # raises if the sender ended early
    except LackingError as failure:
        os.write(error, str(failure).encode())
    finally:
        os._exit(0)
