# SPDX-License-Identifier: GPL-2.0-only
"""The short form of each campaign that this machine can run."""

import os
import platform
from pathlib import Path

import pytest

from tests.campaign.__main__ import complete
from tests.campaign.registry import CAMPAIGNS

pytestmark = pytest.mark.usefixtures("kvm")


@pytest.mark.parametrize("name", [name for name, each in CAMPAIGNS.items() if each.short])
def test_nothing_fails(name: str, tmp_path: Path) -> None:
    campaign = CAMPAIGNS[name]
    if campaign.lab and platform.machine() != "aarch64":
        pytest.skip("needs an arm64 kernel: python -m pyvmm lab test tests/campaign")
    if not campaign.lab and "PYVMM_LAB" in os.environ:
        pytest.skip("does not depend on the machine, and takes minutes under emulation")
    batches = complete(name, campaign, campaign.short, tmp_path)
    assert [text for batch in batches for text in batch.failures] == []
