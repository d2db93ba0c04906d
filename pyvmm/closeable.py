# SPDX-License-Identifier: GPL-2.0-only
"""Objects that own a resource until they are closed."""

from typing import Self


class Closeable:
    """A base class whose ``with`` block calls `close`, also when an exception leaves the block."""

    def close(self) -> None:
        """Release what this object owns. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close this object."""
        self.close()
