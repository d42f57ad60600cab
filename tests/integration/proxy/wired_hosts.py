"""Hosts in namespaces for the tests of proxies, as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from proxy_hosts import Hosts


@pytest.fixture(scope="module")
def wired() -> Iterator[Hosts]:
    """The namespaces, for all tests of a module."""
    hosts = Hosts()
    try:
        hosts.build()
        yield hosts
    finally:
        hosts.spaces.close()


@pytest.fixture
async def hosts(wired: Hosts) -> AsyncIterator[Hosts]:
    """The same with servers, and with this test's programs running on the node."""
    try:
        await wired.serve()
        with wired.spaces.inside("node"):
            yield wired
    finally:
        await wired.close_servers()
