"""The fixtures of tests that show what the conformance suite requires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import cluster as live
import pytest
import pytest_asyncio

from machinery.client.config import ClientConfig
from machinery.client.rest import Client

if TYPE_CHECKING:
    from live_lab import LiveLab

pytest_plugins = ["live_lab"]


@pytest_asyncio.fixture
async def cluster(lab: LiveLab) -> AsyncIterator[live.Cluster]:
    """The live cluster, with a namespace for this test alone."""
    assert live.KUBECTL.exists(), "python -c 'from lab.verbs import clients; clients.prepare_kubectl(\"new\")'"
    config = ClientConfig.from_kubeconfig(lab.layout.kubeconfig)
    async with Client(config, user_agent="navarch-required") as client, live.namespace(client, {}) as name:
        yield live.Cluster(lab, client, name)


@pytest.fixture(autouse=True)
def _named(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("requirement"), "say which requirement this test shows"
