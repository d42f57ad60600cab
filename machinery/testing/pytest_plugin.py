"""pytest fixtures for those who write what runs on Kubernetes; there once Navarch is installed.

    def test_my_operator(navarch_cluster, navarch_namespace):
        subprocess.run(["kubectl", "-n", navarch_namespace, "get", "pods"], env=navarch_cluster.environment())

`navarch_hollow_nodes = 3` in pytest's configuration file sets how many hollow nodes there are (1).
Told in full in docs/testing-your-operator.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from machinery.api.catalogue import NAMESPACES, SERVICEACCOUNTS
from machinery.api.meta import name_of, random_suffix
from machinery.client.rest import Client
from machinery.testing.cluster import Cluster, running_cluster

_ACCOUNT_SECONDS = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one setting."""
    parser.addini("navarch_hollow_nodes", "how many hollow nodes the fixture navarch_cluster has", default="1")


@pytest.fixture(scope="session")
def navarch_cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster in memory with hollow nodes, one for all tests of a run; started when the first test asks for it."""
    with running_cluster(hollow_nodes=int(pytestconfig.getini("navarch_hollow_nodes"))) as cluster:
        yield cluster


@pytest.fixture
def navarch_namespace(navarch_cluster: Cluster) -> Iterator[str]:
    """The name of a fresh namespace, in which pods can be made; deleted with everything in it after the test."""
    name = f"test-{random_suffix()}"
    _with_client(navarch_cluster, lambda client: _make(client, name))
    yield name
    _with_client(navarch_cluster, lambda client: client.delete(NAMESPACES, name))


async def _make(client: Client, name: str) -> None:
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    async with asyncio.timeout(_ACCOUNT_SECONDS):
        async for event in client.watch(SERVICEACCOUNTS, name, resource_version="0"):
            if name_of(event.object) == "default":
                return


def _with_client(cluster: Cluster, work: Callable[[Client], Awaitable[object]]) -> None:
    """Run `work` in a thread: whatever event loop the tests have is theirs alone."""

    async def run() -> None:
        async with Client(cluster.config, user_agent="navarch-testing") as client:
            await work(client)

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(asyncio.run, run()).result()
