# SPDX-License-Identifier: GPL-2.0-only
"""The file of ``--report`` or ``--html``, which is complete or not written at all."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyvmm.errors import LackingError, UsageError


def json_text(document: Any) -> str:
    """Return a document as JSON."""
    return json.dumps(document, indent=1) + "\n"


class ReportFile:
    """A file about a document, to be written at the end of a run."""

    def __init__(self, path: Path, form: Callable[[Any], str] = json_text) -> None:
        """Check that `path` can be written, without writing it. Raises `UsageError`.

        `form` returns the file's content for a document.
        """
        self._path = path
        self._form = form
        try:
            # Resolved, because a rename would replace a symbolic link.
            self._target = Path(os.path.realpath(path))
            if self._target.is_dir():
                raise UsageError(f"cannot write the report to {path}: it is a directory")
            # A rename would also replace a device or a pipe.
            self._replaced = self._target.is_file() or not path.exists()
            if self._replaced:
                tempfile.TemporaryFile(dir=self._target.parent).close()
        except OSError as error:
            raise UsageError(f"cannot write the report to {path}: {error.strerror}") from None

    def save(self, document: Any) -> None:
        """Write `document`; a regular file is replaced atomically. Raises `LackingError`."""
        text = self._form(document)
        draft = self._target.with_name(f".pyvmm-{os.getpid()}") if self._replaced else self._path
        try:
            try:
                draft.write_text(text, "utf-8", "backslashreplace")
                if self._replaced:
                    draft.replace(self._target)
            finally:
                if self._replaced:
                    draft.unlink(missing_ok=True)
        except OSError as error:
            message = f"cannot write the report to {self._path}: {error.strerror}"
            raise LackingError(message) from None
