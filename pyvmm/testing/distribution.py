# SPDX-License-Identifier: GPL-2.0-only
"""Sessions that pytest-xdist distributes: a controller, and workers that run the tests.

With ``--dist loadgroup`` and pytest before 9.2, the workers append ``@GROUP`` to the node id of a
test with the marker ``xdist_group``.
"""

from collections.abc import Callable
from typing import Any

import pytest


def is_worker(config: pytest.Config) -> bool:
    """Return True in a process of pytest-xdist that runs tests."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Return True in the process that distributes the tests to workers, and runs none."""
    option = config.option
    return not is_worker(config) and getattr(option, "dist", "no") != "no" and bool(option.tx)


def without_group(config: pytest.Config, nodeid: str) -> str:
    """Return the node id without ``@GROUP``."""
    option = config.option
    with_groups = getattr(option, "loadgroup", False) or getattr(option, "dist", "") == "loadgroup"
    if not with_groups or nodeid.rfind("@") < nodeid.rfind("]"):
        return nodeid
    return nodeid.rpartition("@")[0] or nodeid


def schedule_by(scope: Callable[[str], str], config: pytest.Config, log: Any) -> Any:
    """Return a scheduler of pytest-xdist; one worker runs all node ids of one `scope`."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Scheduling(config, log)


class Ungrouped:
    """The controller's plugin that removes the groups before others see the reports."""

    def __init__(self, config: pytest.Config) -> None:
        """Create the plugin of a session."""
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Rename the test of a report."""
        report.nodeid = without_group(self._config, report.nodeid)
