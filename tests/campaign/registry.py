# SPDX-License-Identifier: GPL-2.0-only
"""All campaigns by name."""

from tests.campaign import (
    boots,
    faults,
    guests,
    inputs,
    job_kills,
    lab_kills,
    lifecycles,
    trace_kills,
    vcpu_faults,
)
from tests.campaign.campaign import Campaign

CAMPAIGNS: dict[str, Campaign] = {
    "guests": guests.CAMPAIGN,
    "faults": faults.CAMPAIGN,
    "vcpu-faults": vcpu_faults.CAMPAIGN,
    "boots": boots.CAMPAIGN,
    "inputs": inputs.CAMPAIGN,
    "lifecycles": lifecycles.CAMPAIGN,
    "trace-kills": trace_kills.CAMPAIGN,
    "lab-kills": lab_kills.CAMPAIGN,
    "job-kills": job_kills.CAMPAIGN,
}
