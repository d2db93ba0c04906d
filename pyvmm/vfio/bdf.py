# SPDX-License-Identifier: GPL-2.0-only
"""PCI addresses in the notation of sysfs and lspci -D: ``0000:01:00.0``."""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from pyvmm.errors import UsageError

# Domains can exceed 16 bits: Intel's VMD uses 0x10000 and above.
_FORM = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})\.(?P<function>[0-7])",
    re.ASCII | re.IGNORECASE,
)
_LAST_DEVICE = 0x1F


class Bdf(NamedTuple):
    """The address of a PCI function: domain, bus, device (0 to 31) and function (0 to 7)."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `text`, in upper or lower case. Raises `UsageError`."""
        match = _FORM.fullmatch(text)
        if not match:
            raise UsageError(
                f"{text!r} is not a PCI address: write DOMAIN:BUS:DEVICE.FUNCTION in hex, "
                "for example 0000:01:00.0 (lspci -D lists them)"
            )
        if not match["domain"]:
            raise UsageError(f"{text!r} has no PCI domain: did you mean 0000:{text.lower()}?")
        device = int(match["device"], 16)
        if device > _LAST_DEVICE:
            raise UsageError(f"{text!r} is not a PCI address: the device number must be 00 to 1f")
        return cls(int(match["domain"], 16), int(match["bus"], 16), device, int(match["function"]))

    @classmethod
    def parse_all(cls, texts: Iterable[str]) -> list[Self]:
        """Parse several addresses. Raises `UsageError`, also if one is given twice."""
        addresses: list[Self] = []
        for address in map(cls.parse, texts):
            if address in addresses:
                raise UsageError(f"{address} is given twice: give each device once")
            addresses.append(address)
        return addresses

    def __str__(self) -> str:
        """Return the address as sysfs writes it."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"
