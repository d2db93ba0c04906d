# SPDX-License-Identifier: GPL-2.0-only
"""The kernel headers that the bindings were generated from, fetched once and cached."""

from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import kernel_headers as debian
from pyvmm.uapi import builtin


@pytest.fixture(scope="session")
def headers() -> Path:
    """Return the headers of the committed bindings' release, for every architecture."""
    release = builtin.version()
    try:
        return debian.fetch(release)
    except LackingError as error:
        pytest.skip(f"the kernel headers need Debian's mirror: {error}")
    except UsageError as error:
        pytest.skip(
            f"{error}; unpack it from Debian's archive of old packages, and run "
            "python -m pyvmm.uapi.generate --headers DIR --check"
        )


@pytest.fixture
def libclang() -> None:
    """Skip the test if libclang is missing."""
    pytest.importorskip("clang", reason="reading headers needs pip install 'pyvmm[headers]'")
