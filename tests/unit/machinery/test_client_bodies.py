"""A body is read to its end, however it comes, and no further than is wanted."""

from __future__ import annotations

import asyncio

from machinery.client.bodies import read_up_to


async def test_a_body_that_comes_in_pieces_is_read_whole() -> None:
    content = asyncio.StreamReader()
    content.feed_data(b"first ")
    reading = asyncio.ensure_future(read_up_to(content, 100))
    await asyncio.sleep(0)
    content.feed_data(b"second")
    content.feed_eof()
    assert await reading == b"first second"


async def test_a_body_that_is_too_long_is_left_where_it_is_enough() -> None:
    content = asyncio.StreamReader()
    content.feed_data(b"0123456789")
    assert await read_up_to(content, 4) == b"0123"
    assert await content.read(100) == b"456789"
