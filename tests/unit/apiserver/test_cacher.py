"""What a cacher knows of a collection that nobody has asked for before."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.apiserver.cacher.cacher import Cacher
from controlplane.apiserver.storage.memory import MemoryStorage
from machinery.errors import Expired

OBJECT = b'{"metadata":{"name":"a"}}'


async def test_what_nobody_has_asked_for_can_be_watched_from_before_it_was_asked_for() -> None:
    """A client lists at one server and watches at another that never served this kind."""
    storage = MemoryStorage()
    await storage.put("/registry/things/a", OBJECT, expected=0)
    cacher = Cacher(storage)
    await cacher.start()
    began = cacher.revision
    follows = asyncio.create_task(cacher.run())
    for name in ("b", "c"):
        await storage.put(f"/registry/things/{name}", OBJECT, expected=0)
    assert await cacher.reached(began + 2, 5.0)
    assert not cacher.collection("others/").since(began)
    with pytest.raises(Expired):
        cacher.collection("others/").since(began - 1)
    assert [event.record.key for event in cacher.collection("things/").since(began)] == ["b", "c"]
    follows.cancel()
    await asyncio.gather(follows, return_exceptions=True)
