"""Forgetting UDP flows that would go on to an endpoint that is gone, or to nowhere.

The kernel translates a flow as its first packet was, for as long as packets keep coming.  So when an endpoint goes, its
flows are removed; when a service gets its first endpoint, flows that began without one are; and at the start, those
that an earlier proxy left behind.  An endpoint that gets no new flows (because it terminates, or another is nearer) but
still serves keeps those that it has, as it keeps TCP connections.

Source: conntrack(8).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.command import CommandError, CommandResult, run
from agent.proxy import metrics
from agent.proxy.model import Family, PortRules, ServicePortName
from machinery.log import get_logger

log = get_logger(__name__)

_TIMEOUT_SECONDS = 30
_NOTHING_DELETED = b"0 flow entries"
_DELETED = re.compile(rb"(\d+) flow entries have been deleted")
_FAMILIES = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}


@dataclass(frozen=True, slots=True)
class StaleFlows:
    """UDP flows to be forgotten: those to an address ("" for any) and port that are answered from `endpoint`."""

    family: Family
    destination: str
    port: int
    endpoint: str = ""  # "": whoever answers

    def arguments(self) -> list[str]:
        """What `conntrack` is told."""
        options = ["-D", "-f", _FAMILIES[self.family], "-p", "udp", "--orig-port-dst", str(self.port)]
        if self.destination:
            options += ["--orig-dst", self.destination]
        if self.endpoint:
            options += ["--reply-src", self.endpoint]
        return options


def stale_flows(family: Family, old: PortRules | None, new: PortRules | None) -> list[StaleFlows]:
    """The flows that a change of one service port makes stale."""
    either = new or old
    if either is None or either.name.protocol != "udp":
        return []
    were, are = _serving_ips(old), _serving_ips(new)
    gone = sorted(were - are)
    if not gone and (were or not are):
        return []
    found = []
    for destination, port in dict.fromkeys([*_places(old), *_places(new)]):
        # With no endpoint before, what is remembered led nowhere and goes as a whole.
        found += [StaleFlows(family, destination, port, ip) for ip in gone or [""]]
    return found


def left_behind(family: Family, rules: Mapping[ServicePortName, PortRules], listing: str) -> list[StaleFlows]:
    """Of the flows that `conntrack -L` lists, those to our UDP services that go to no endpoint of today."""
    allowed: dict[tuple[str, int], set[str]] = {}
    for port_rules in rules.values():
        if port_rules.name.protocol == "udp":
            for place in _places(port_rules):
                allowed.setdefault(place, set()).update(port_rules.serving_ips)
    found = set()
    for line in listing.splitlines():
        words = [word.partition("=") for word in line.split()]
        destinations = [value for name, _, value in words if name == "dst"]
        sources = [value for name, _, value in words if name == "src"]
        ports = [value for name, _, value in words if name == "dport"]
        if len(sources) < 2 or not destinations or not ports:
            continue
        to, port, answers = destinations[0], int(ports[0]), sources[1]
        endpoints = allowed.get((to, port), allowed.get(("", port)))
        if endpoints and answers not in endpoints:
            found.add(StaleFlows(family, to, port, answers))
    return sorted(found, key=lambda flows: flows.arguments())


async def clear_left_behind(family: Family, rules: Mapping[ServicePortName, PortRules]) -> None:
    """Forget what an earlier proxy left behind."""
    if all(name.protocol != "udp" for name in rules):
        return
    result = await _conntrack("-L", "-f", _FAMILIES[family], "-p", "udp")
    if result is not None:
        await clear_stale(family, left_behind(family, rules, result.text))


async def clear_stale(family: Family, flows: Iterable[StaleFlows]) -> None:
    """Forget these flows. A failure is logged: flows end by themselves when they have been silent for a while."""
    began = time.monotonic()
    deleted = 0
    for flow in dict.fromkeys(flows):
        result = await _conntrack(*flow.arguments())
        found = _DELETED.search(result.stderr) if result is not None else None
        deleted += int(found[1]) if found else 0
    metrics.CONNTRACK_DELETED.labels(family.api_name).inc(deleted)
    metrics.CONNTRACK_SECONDS.labels(family.api_name).observe(time.monotonic() - began)


async def _conntrack(*arguments: str) -> CommandResult | None:
    try:
        result = await run("conntrack", *arguments, timeout_seconds=_TIMEOUT_SECONDS)
    except CommandError as error:
        log.warning("stale UDP flows stay until they time out", reason=str(error))
        return None
    if result.returncode == 0 or _NOTHING_DELETED in result.stderr:
        return result
    said = result.stderr.decode(errors="replace").strip()
    log.warning("stale UDP flows stay until they time out", reason=said, arguments=" ".join(arguments))
    return None


def _serving_ips(rules: PortRules | None) -> frozenset[str]:
    return rules.serving_ips if rules else frozenset()


def _places(rules: PortRules | None) -> list[tuple[str, int]]:
    """Where the port is reached: (address, port), with the address "" for a node port."""
    if rules is None:
        return []
    places = [(ip, rules.port) for ip in (rules.cluster_ip, *rules.external_ips, *rules.load_balancer_ips)]
    return [*places, ("", rules.node_port)] if rules.node_port else places
