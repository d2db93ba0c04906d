# SPDX-License-Identifier: GPL-2.0-only
"""All campaigns by name."""

from tests.campaign import faults, guests, inputs, kills, lifecycles
from tests.campaign.campaign import Campaign

CAMPAIGNS: dict[str, Campaign] = {
    "guests": guests.CAMPAIGN,
    "faults": faults.CAMPAIGN,
    "inputs": inputs.CAMPAIGN,
    "lifecycles": lifecycles.CAMPAIGN,
    "trace-kills": kills.TRACES,
    "lab-kills": kills.LABS,
    "job-kills": kills.JOBS,
}
