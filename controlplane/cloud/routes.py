"""A route to each node for the pods on it, in the cloud's own network.

Source: k8s.io/cloud-provider/controllers/route/route_controller.go.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.cloud.contract import Route, Routes
from controlplane.cloud.environment import Environment
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, condition, format_time, name_of
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound, SettingsError
from machinery.events import EventRecorder
from machinery.log import get_logger
from machinery.periodic import KEY, every

log = get_logger(__name__)

ACCOUNT = "route-controller"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class RoutePlan:
    """What has to change."""

    create: tuple[Route, ...] = ()
    delete: tuple[Route, ...] = ()


def wanted_routes(node: Object) -> list[Route]:
    """The routes that a node needs: to each of its pod networks, by its address of that family."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    networks = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    addresses = [a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"]
    found = []
    for network in networks:
        gateway = next((a for a in addresses if (":" in a) == (":" in network)), None)
        if gateway is not None:
            found.append(Route(network, gateway, name_of(node)))
    return found


def plan_routes(nodes: Iterable[Object], present: Iterable[Route], cluster: Iterable[Network]) -> RoutePlan:
    """Compare; only routes inside the cluster's own networks are ever deleted."""
    wanted = {route for node in nodes for route in wanted_routes(node)}
    there = set(present)
    networks = list(cluster)

    def is_ours(route: Route) -> bool:
        network = ipaddress.ip_network(route.destination, strict=False)
        return any(network.version == n.version and network.overlaps(n) for n in networks)

    surplus = [route for route in there - wanted if is_ours(route)]
    return RoutePlan(tuple(sorted(wanted - there)), tuple(sorted(surplus)))


def network_condition(node: Object, *, reachable: bool, now: str) -> Object | None:
    """The NetworkUnavailable condition to write, None if it stands."""
    wanted = (
        {"status": "False", "reason": "RouteCreated", "message": "RouteController created a route"}
        if reachable
        else {"status": "True", "reason": "NoRouteCreated", "message": "RouteController failed to create a route"}
    )
    standing = condition((node.get("status") or {}).get("conditions"), "NetworkUnavailable")
    if standing is not None and standing.get("status") == wanted["status"]:
        return None
    return {"type": "NetworkUnavailable", **wanted, "lastTransitionTime": now, "lastHeartbeatTime": now}


@dataclass(frozen=True)
class RouteReconciler:
    """Brings all routes up to date."""

    nodes: Informer
    routes: Routes
    networks: list[Network]
    client: Client
    recorder: EventRecorder
    clock: Clock

    async def reconcile(self) -> None:
        """One comparison. Raises the first error, after all has been tried."""
        nodes = self.nodes.list()
        plan = plan_routes(nodes, await self.routes.list(), self.networks)
        # Old ones first: a network that moved to another node must not lead to two.
        gone = await asyncio.gather(*map(self.routes.delete, plan.delete), return_exceptions=True)
        made = await asyncio.gather(*map(self.routes.create, plan.create), return_exceptions=True)
        failed: dict[str, list[BaseException]] = defaultdict(list)
        for route, result in zip(plan.create, made, strict=True):
            if isinstance(result, BaseException):
                failed[route.node].append(result)
                log.error("route not created", error=result, node=route.node, destination=route.destination)
        for node in nodes:
            if wanted_routes(node):
                await self._tell(node, failed.get(name_of(node), []))
        for error in (*gone, *(e for errors in failed.values() for e in errors)):
            if isinstance(error, BaseException):
                raise error

    async def _tell(self, node: Object, errors: list[BaseException]) -> None:
        for error in errors:
            self.recorder.warning(
                node, "FailedToCreateRoute", f"Could not create route for node {name_of(node)}: {error}"
            )
        now = format_time(self.clock.now())
        told = network_condition(node, reachable=not errors, now=now)
        if told is None:
            return
        patch = {"status": {"conditions": [told]}}
        try:
            await self.client.patch(NODES, name_of(node), patch, content_type=STRATEGIC, subresource="status")
        except NotFound:
            return


def build(env: Environment) -> list[Controller]:
    """The controller of routes; nothing unless nodes' networks are allocated and the cloud has routes."""
    flags = env.flags
    if not flags["allocate-node-cidrs"] or not flags["configure-cloud-routes"]:
        return []
    if env.cloud.routes is None:
        log.warning("the cloud provider has no routes, not making any", provider=env.cloud.name)
        return []
    if not flags["cluster-cidr"]:
        raise SettingsError("--allocate-node-cidrs needs --cluster-cidr")
    nodes = env.informers.of(NODES)
    reconciler = RouteReconciler(
        nodes,
        env.cloud.routes,
        flags["cluster-cidr"],
        env.client_for(ACCOUNT),
        env.recorder("route_controller", ACCOUNT),
        env.clock,
    )
    controller = every("route", float(flags["route-reconciliation-period"]), reconciler.reconcile)

    def changed(old: Object | None, new: Object | None) -> None:
        before = wanted_routes(old) if old is not None else []
        if before != (wanted_routes(new) if new is not None else []):
            controller.enqueue(KEY)

    nodes.on_change(changed)
    return [controller]
