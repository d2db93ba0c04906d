# SPDX-License-Identifier: GPL-2.0-only
"""All campaigns by name."""

from tests.campaign import inputs, lifecycles
from tests.campaign.campaign import Campaign

CAMPAIGNS: dict[str, Campaign] = {
    "inputs": inputs.CAMPAIGN,
    "lifecycles": lifecycles.CAMPAIGN,
}
