# SPDX-License-Identifier: GPL-2.0-only
"""The source of the site: the documents of the checkout, and pages generated from the code."""
