"""NetworkPolicies and pods as enforcement sees them.

Source: NetworkPolicy v1 API reference; "Network Policies" in the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Literal

from machinery.api.labels import EVERYTHING, NOTHING, Selector, from_selector
from machinery.api.meta import Object, key_of, labels_of, namespace_of

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")

_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with a network of its own."""

    key: str
    namespace: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    node: str
    named_ports: frozenset[tuple[str, str, int]]  # name, protocol (tcp, udp, sctp), number

    @staticmethod
    def of(pod: Object) -> Pod | None:
        """Read a Pod; None for one that has no address of its own (any more)."""
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        ips = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
        known = tuple(ip for ip in ips if ip)
        if not known or spec.get("hostNetwork") or status.get("phase") in _ENDED:
            return None
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        named = frozenset(
            (str(port["name"]), str(port.get("protocol") or "TCP").lower(), int(port["containerPort"]))
            for container in containers
            for port in container.get("ports") or ()
            if port.get("name")
        )
        return Pod(key_of(pod), namespace_of(pod), labels_of(pod), known, str(spec.get("nodeName") or ""), named)


@dataclass(frozen=True, slots=True)
class Pods:
    """Which pods: those of one namespace, or of the namespaces that a selector chooses."""

    namespace: str  # "" with `namespaces`
    namespaces: Selector | None
    pods: Selector

    def matches(self, pod: Pod, namespace_labels: Mapping[str, str] | None) -> bool:
        """Whether a pod is one of them; `namespace_labels` are those of its namespace, None if it is unknown."""
        if self.namespaces is None:
            return pod.namespace == self.namespace and self.pods.matches(pod.labels)
        return (
            namespace_labels is not None and self.namespaces.matches(namespace_labels) and self.pods.matches(pod.labels)
        )


ALL_PODS = Pods("", EVERYTHING, EVERYTHING)


@dataclass(frozen=True, slots=True)
class Block:
    """A range of addresses without some parts of it."""

    cidr: str
    excepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """A port, a range of ports, a port by name, or (number and name empty) all of a protocol."""

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Peers and ports; an empty tuple stands for all of them."""

    peers: tuple[Pods | Block, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A NetworkPolicy: for each direction that it is about, what it allows."""

    key: str
    selects: Pods
    rules: Mapping[Direction, tuple[Rule, ...]]
    problems: tuple[str, ...] = ()

    @staticmethod
    def of(policy: Object) -> Policy:
        """Read a NetworkPolicy; what makes no sense allows nothing, and is told in `problems`."""
        spec = policy.get("spec") or {}
        namespace = namespace_of(policy)
        problems: list[str] = []
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        rules: dict[Direction, tuple[Rule, ...]] = {}
        for direction, kind, peers in (("ingress", "Ingress", "from"), ("egress", "Egress", "to")):
            if kind in types:
                made = (_rule(rule, peers, namespace, problems) for rule in spec.get(direction) or ())
                rules["ingress" if direction == "ingress" else "egress"] = tuple(r for r in made if r is not None)
        selects = Pods(namespace, None, _selector(spec.get("podSelector"), problems))
        return Policy(key_of(policy), selects, rules, tuple(problems))


def _selector(described: Object | None, problems: list[str]) -> Selector:
    try:
        return from_selector(described or {})
    except ValueError as error:
        problems.append(str(error))
        return NOTHING


def _rule(rule: Object, peers: str, namespace: str, problems: list[str]) -> Rule | None:
    """A rule, or None if none of its peers, or none of its ports, makes sense."""
    known = [peer for described in rule.get(peers) or () if (peer := _peer(described, namespace, problems)) is not None]
    ports = [port for described in rule.get("ports") or () if (port := _port(described, problems)) is not None]
    if (rule.get(peers) and not known) or (rule.get("ports") and not ports):
        return None
    return Rule(tuple(known), tuple(ports))


def _peer(described: Object, namespace: str, problems: list[str]) -> Pods | Block | None:
    block = described.get("ipBlock")
    if block is not None:
        try:
            cidr = str(ip_network(block.get("cidr"), strict=False))
            return Block(cidr, tuple(str(ip_network(e, strict=False)) for e in block.get("except") or ()))
        except ValueError as error:
            problems.append(f"ipBlock: {error}")
            return None
    pods = _selector(described.get("podSelector"), problems)
    if described.get("namespaceSelector") is None:
        return Pods(namespace, None, pods)
    return Pods("", _selector(described["namespaceSelector"], problems), pods)


def _port(described: Object, problems: list[str]) -> Port | None:
    protocol = str(described.get("protocol") or "TCP").lower()
    number: Any = described.get("port")
    if protocol not in ("tcp", "udp", "sctp"):
        problems.append(f"protocol {described.get('protocol')} is not known")
        return None
    if number is None:
        return Port(protocol)
    if isinstance(number, str):
        return Port(protocol, name=number)
    last = described.get("endPort") or number
    if not 0 < number <= last < 65536:
        problems.append(f"ports {number} to {last} are none")
        return None
    return Port(protocol, number, last)
