# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.pages.trends import trends
from tests.pages.documents import BENCH


def test_points_follow_the_runs() -> None:
    faster = BENCH | {"figures": [BENCH["figures"][0] | {"value": 12.25}]}
    [exits, ratio] = trends([BENCH, faster])
    assert [point.value for point in exits.points] == [24.5, 12.25]
    assert exits.points[0].x < exits.points[1].x
    assert exits.points[0].y < exits.points[1].y
    assert exits.change == "-50%"
    assert len(ratio.points) == 1
    assert ratio.change == ""
    assert ratio.goal == 1.25
    assert ratio.goal_y is not None
    assert ratio.goal_y < ratio.points[0].y
