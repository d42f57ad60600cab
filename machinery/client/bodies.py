"""Bodies of answers, as far as they are wanted."""

from __future__ import annotations

from typing import Protocol


class Content(Protocol):
    """A body that is still coming, such as `aiohttp.StreamReader`."""

    async def read(self, n: int) -> bytes:
        """Up to `n` bytes of what has come, b"" at the end."""
        ...


async def read_up_to(content: Content, most: int) -> bytes:
    """A whole body, or the first `most` bytes of one that is longer. Raises what reading raises.

    One read gives only what has come so far: the first packet of several.
    """
    found = b""
    while len(found) < most and (part := await content.read(most - len(found))):
        found += part
    return found
