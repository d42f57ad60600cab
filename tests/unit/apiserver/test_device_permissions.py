"""Who may write which part of a ResourceClaim's status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.apiserver.authn.identity import NODE_NAME
from controlplane.apiserver.reader import OnChange, Reader
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.request import RequestInfo, User
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


class NoObjects(Reader):
    """Nothing is stored."""

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return None

    def list(self, resource: ResourceType, namespace: str = "") -> Iterable[Object]:
        return ()

    def on_change(self, resource: ResourceType, callback: OnChange, *, holding: str = "") -> None:
        pass

    async def get_latest(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return None


def allocated(*nodes: str) -> Object:
    fields = [{"key": "metadata.name", "operator": "In", "values": list(nodes)}]
    return {"allocation": {"nodeSelector": {"nodeSelectorTerms": [{"matchFields": fields}]}}}


def told(*drivers: str, device: str = "d") -> Object:
    return {"devices": [{"driver": driver, "pool": "p", "device": device} for driver in drivers]}


async def change(
    new: Object, old: Object, *granted: str, node: str = "", verb: str = "update"
) -> tuple[Any, list[str]]:
    """(errors, what the authoriser was asked)."""
    asked: list[str] = []

    async def authorize(user: User, request: RequestInfo) -> tuple[bool, str]:
        where = f" {request.namespace}/{request.name}" if request.namespace else ""
        asked.append(f"{request.verb} {request.resource}/{request.subresource}{where}")
        return asked[-1] in granted, "no rule"

    user = User("u", extra={NODE_NAME: (node,)} if node else {})
    context = Context(user, NoObjects(), "now", "ns", "c", verb=verb, authorize=authorize)
    permitted = strategy_for(catalogue.RESOURCECLAIMS).permitted
    errors = await permitted({"status": new}, {"status": old}, context)
    return [str(error) for error in errors], asked


BIND = "update resourceclaims/binding"
NEAR, ANY = (f"{whose}-node:update resourceclaims/driver ns/a.io" for whose in ("associated", "arbitrary"))


@pytest.mark.parametrize("new", [allocated("n"), {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}])
async def test_binding_needs_leave(new: Object) -> None:
    assert await change(new, {}, BIND) == ([], [BIND])
    errors, asked = await change(new, {})
    assert asked == [BIND]
    assert errors == [
        "status: Forbidden: changing status.allocation or status.reservedFor requires extra permission: "
        'User "u" cannot update resource "resourceclaims/binding" in API group "resource.k8s.io" at the cluster scope: '
        "no rule"
    ]
    assert await change(new, new) == ([], [])


@pytest.mark.parametrize(
    ("node", "nodes", "granted", "asked", "refused"),
    [
        ("n", ("n",), [NEAR], [NEAR], 0),
        ("n", ("n",), [ANY], [NEAR, ANY], 0),
        ("n", ("n",), [], [NEAR, ANY], 1),
        ("n", ("other",), [NEAR], [ANY], 1),
        ("n", ("n", "m"), [ANY], [ANY], 0),
        ("", ("n",), [ANY], [ANY], 0),
        ("", (), [], [ANY], 1),
    ],
)
async def test_reports_need_leave(
    node: str, nodes: tuple[str, ...], granted: list[str], asked: list[str], refused: int
) -> None:
    place = allocated(*nodes) if nodes else {}
    new, old = place | told("a.io", "b.io"), place | told("a.io", device="before") | {}
    old["devices"].append({"driver": "b.io", "pool": "p", "device": "d"})
    errors, questions = await change(new, old, *granted, node=node)
    assert questions == asked
    assert len(errors) == refused
    assert all("changing status.devices requires extra permission" in error for error in errors)


async def test_who_takes_devices_back_needs_no_leave_for_the_reports_that_go_with_them() -> None:
    """The scheduler and the claim controller may bind, and report nothing."""
    result = {"request": "r", "driver": "a.io", "pool": "p", "device": "d"}
    old = {"allocation": {"devices": {"results": [result]}}} | told("a.io")
    assert await change({}, old, BIND) == ([], [BIND])
    kept = {"allocation": old["allocation"]}
    errors, asked = await change(kept, old, BIND)
    assert asked == [ANY]
    assert len(errors) == 1


async def test_a_patch_needs_leave_to_patch() -> None:
    _, asked = await change(allocated("n") | told("a.io"), {}, node="n", verb="patch")
    assert asked[:2] == ["patch resourceclaims/binding", "associated-node:patch resourceclaims/driver ns/a.io"]
