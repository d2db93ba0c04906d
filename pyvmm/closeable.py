# SPDX-License-Identifier: GPL-2.0-only
"""What is owned is given back where a ``with`` block ends, however it ends."""

from typing import Self


class Closeable:
    """A base for what has a `close` that may be called twice."""

    def close(self) -> None:
        """Give back what this owns."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
