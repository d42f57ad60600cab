"""The add-on's objects on an API server: a second `navarch up` brings them to what they should be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import running_apiserver
from lab import cluster
from lab.bootstrap import dns, objects
from lab.topology import Topology
from machinery.api.catalogue import DEPLOYMENTS, SERVICES
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import Invalid

CONFIG = cluster.configuration(Topology())


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running_apiserver(Settings(service_cluster_ip_ranges=("10.96.0.0/16",))) as server:
        config = ClientConfig(server=server.url, token=server.token, ca_data=server.ca)
        async with Client(config, user_agent="test") as made:
            yield made


async def test_objects_are_made_and_later_brought_up_to_date_although_the_address_is_taken(client: Client) -> None:
    await objects.apply(client, dns.plan(CONFIG, "registry.example/navarch:1"))
    await objects.apply(client, dns.plan(CONFIG, "registry.example/navarch:2"))
    service = await client.get(SERVICES, "kube-dns", "kube-system")
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    deployment = await client.get(DEPLOYMENTS, dns.NAME, "kube-system")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/navarch:2"


async def test_an_address_that_another_service_has_is_told(client: Client) -> None:
    spec = {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}
    await client.create(SERVICES, {"metadata": {"name": "squatter"}, "spec": spec}, "default")
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await objects.apply(client, dns.plan(CONFIG, "registry.example/navarch:1"))
