# SPDX-License-Identifier: GPL-2.0-only
from types import SimpleNamespace
from typing import Any

import pytest

from pyvmm.testing.distribution import without_group


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("a@b/test_it.py::test_x@max", "a@b/test_it.py::test_x"),
        ("test_it.py::test_x[1]@max", "test_it.py::test_x[1]"),
        ("test_it.py::test_x[a@b]", "test_it.py::test_x[a@b]"),
        ("test_it.py::test_x[a@b]@max", "test_it.py::test_x[a@b]"),
        ("test_it.py::test_x", "test_it.py::test_x"),
    ],
)
def test_group_of_a_node_id(nodeid: str, expected: str) -> None:
    controller: Any = SimpleNamespace(option=SimpleNamespace(dist="loadgroup"))
    worker: Any = SimpleNamespace(option=SimpleNamespace(dist="no", loadgroup=True))
    assert without_group(controller, nodeid) == without_group(worker, nodeid) == expected


def test_without_groups_a_node_id_may_have_any_text() -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(dist="loadfile", loadgroup=False))
    assert without_group(config, "a@b/test_it.py::test_x") == "a@b/test_it.py::test_x"
