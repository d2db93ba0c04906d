# SPDX-License-Identifier: GPL-2.0-only
"""Sphinx's configuration of the site, which ``make docs`` builds from build/docs/source."""

from pyvmm import __version__

project = "pyvmm"
version = release = __version__
copyright = "the pyvmm authors, GPL-2.0-only"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"pyvmm {__version__}"
html_copy_source = False
myst_heading_anchors = 4
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
smartquotes = False  # they turn the dashes of an option into one
linkcheck_timeout = 20
linkcheck_retries = 2
