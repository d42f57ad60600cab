"""Devices of a driver that exists on paper only, and claims for them."""

from __future__ import annotations

from typing import Any

from scheduler_lab import pod

from machinery.api.catalogue import DEVICECLASSES, RESOURCECLAIMS, RESOURCESLICES
from machinery.api.meta import Object
from machinery.client.rest import Client


async def devices(client: Client, node_name: str, *names: str, **more: Any) -> None:
    """Devices of a node, whose model is their name without its number."""
    made = [{"name": name, "attributes": {"model": {"string": name.rstrip("0123456789")}}, **more} for name in names]
    spec = {
        "driver": "gpu.example.com",
        "nodeName": node_name,
        "pool": {"name": node_name, "generation": 1, "resourceSliceCount": 1},
        "devices": made,
    }
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"slice-{node_name}"},
        "spec": spec,
    }
    await client.create(RESOURCESLICES, body)


async def device_class(client: Client, **more: Any) -> None:
    """The class of all of them."""
    spec = {"selectors": [{"cel": {"expression": 'device.driver == "gpu.example.com"'}}], **more}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": spec}
    await client.create(DEVICECLASSES, body)


async def resource_claim(client: Client, name: str, **exactly: Any) -> None:
    """A claim with one request, `r`."""
    request = {"name": "r", "exactly": {"deviceClassName": "gpu", **exactly}}
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": [request]}},
    }
    await client.create(RESOURCECLAIMS, body)


def using(name: str, claim_name: str) -> Object:
    """A pod that uses a claim."""
    return pod(name, cpu="100m", resourceClaims=[{"name": "gpu", "resourceClaimName": claim_name}])
