# SPDX-License-Identifier: GPL-2.0-only
"""Self-contained HTML pages, rendered from pyvmm's JSON documents.

All strings of a document are untrusted: the templates escape them, and a page's content security
policy allows no request and no script but its own.
"""

from pyvmm.pages.documents import read
from pyvmm.pages.render import check_earlier, check_installed, render

__all__ = ["check_earlier", "check_installed", "read", "render"]
