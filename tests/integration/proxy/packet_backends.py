"""Backends for the packet suite, as fixtures: each test runs in every mode of MODES."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from packet_rules import MODES, settings
from proxy_hosts import Hosts

from agent.proxy.model import Backend
from agent.proxy.modes import make_backend


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def backend(mode: str, hosts: Hosts) -> AsyncIterator[Backend]:
    made = make_backend(mode, settings(mode))
    yield made
    await made.cleanup()
    hosts.spaces.run("node", "conntrack", "-F", check=False)
