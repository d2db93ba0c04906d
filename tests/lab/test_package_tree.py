# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.errors import UsageError
from pyvmm.lab import package_tree
from pyvmm.lab.apt import no_progress


@pytest.mark.parametrize("name", ["", "../tools", "qemu/sid", "-y", "Qemu"])
def test_invalid_package_names_are_rejected(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a Debian package"):
        package_tree.for_host(name, no_progress)
