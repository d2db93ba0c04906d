# SPDX-License-Identifier: GPL-2.0-only
"""Write the source of the site to a directory: ``python -m tools.site DIRECTORY``.

``make docs`` runs this program, and Sphinx on its result.
"""

import shutil
import sys
from pathlib import Path

from tools.site import causes, documents, examples, reference


def main(directory: Path) -> None:
    """Replace `directory` by the source."""
    shutil.rmtree(directory, ignore_errors=True)
    pages = {**causes.pages(), **examples.pages(), **reference.pages(), **documents.pages()}
    for name, text in pages.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
