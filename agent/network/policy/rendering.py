"""From what policies say to the table that enforces it: pure.

    chain forward    replies; a pod to itself; then by the sender's and by the receiver's address to a chain
    map egress4      { 10.244.0.7 : jump egress-1a2b… }
    chain egress-…   what the policies that select the pod allow together returns, the rest is dropped
    set pods4-…      the addresses of a group of peers

Pods that the same policies select share a chain, and policies that name the same group share a set; when a pod comes or
goes, a few elements do.  Only forwarded packets are looked at: a node may always talk to its own pods.

Source: NetworkPolicy v1 API reference; nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import collapse_addresses, ip_network

from agent.network.policy.model import ALL_PODS, DIRECTIONS, Block, Direction, Pod, Pods, Policy, Port, Rule
from agent.network.policy.state import PolicyState

TABLE = "inet network-policy"
HOOK = "type filter hook forward priority -5;"  # before kube-proxy's refusals, after its translation

_IP = {4: "ip", 6: "ip6"}
_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(slots=True)
class Table:
    """Sets and maps (name -> declaration), their elements (key -> what follows it) and chains (name -> rules)."""

    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)


def render(state: PolicyState) -> Table:
    """The whole table."""
    return _Rendering(state).done()


class _Rendering:
    def __init__(self, state: PolicyState) -> None:
        self.state = state
        self.out = Table()

    def done(self) -> Table:
        rules = ["ct state established,related accept"]
        for version in (4, 6):
            address = _ADDRESS[version]
            self._declare(f"self{version}", f"type {address} . {address};")
            rules.append(f"{_IP[version]} saddr . {_IP[version]} daddr @self{version} accept")
        for direction, end in (("egress", "saddr"), ("ingress", "daddr")):
            for version in (4, 6):
                self._declare(f"{direction}{version}", f"type {_ADDRESS[version]} : verdict;")
                rules.append(f"{_IP[version]} {end} vmap @{direction}{version}")
        for pod, policies in self.state.own_pods():
            self._pod(pod, policies)
        self.out.chains["forward"] = tuple(rules)
        return self.out

    def _declare(self, name: str, declaration: str) -> None:
        self.out.sets[name] = declaration
        self.out.elements.setdefault(name, {})

    def _pod(self, pod: Pod, policies: Sequence[Policy]) -> None:
        for direction in DIRECTIONS:
            about = [policy for policy in policies if direction in policy.rules]
            if not about:
                continue
            chain = f"{direction}-{_digest(policy.key for policy in about)}"
            if chain not in self.out.chains:
                steps = [
                    step
                    for policy in about
                    for rule in policy.rules[direction]
                    for step in self._rule(rule, direction, policy)
                ]
                self.out.chains[chain] = (*dict.fromkeys(steps), "drop")
            for ip in pod.ips:
                self.out.elements[f"{direction}{_version(ip)}"][ip] = f" : jump {chain}"
        for ip in pod.ips:
            self.out.elements[f"self{_version(ip)}"][f"{ip} . {ip}"] = ""

    def _rule(self, rule: Rule, direction: Direction, policy: Policy) -> list[str]:
        peers = [match for peer in rule.peers for match in self._peer(peer, direction)] if rule.peers else [""]
        steps = []
        for port in rule.ports or (None,):
            if port is not None and port.name:
                steps += self._named(port, rule, direction, policy)
                continue
            ports = _ports(port)
            steps += [" ".join(word for word in (peer, ports, "return") if word) for peer in peers]
        return steps

    def _peer(self, peer: Pods | Block, direction: Direction) -> list[str]:
        end = "saddr" if direction == "ingress" else "daddr"
        if isinstance(peer, Block):
            ip = _IP[_version(peer.cidr)]
            excepted = _apart(e for e in peer.excepted if _version(e) == _version(peer.cidr))
            # A range of everybody is no range to nft's sets, and needs none.
            within = (
                f"{ip} {end} {peer.cidr}"
                if ip_network(peer.cidr).prefixlen
                else f"meta nfproto ipv{_version(peer.cidr)}"
            )
            return [within + (f" {ip} {end} != {{ {', '.join(excepted)} }}" if excepted else "")]
        return [f"{_IP[version]} {end} @{self._group(peer, version)}" for version in (4, 6)]

    def _group(self, group: Pods, version: int) -> str:
        name = f"pods{version}-{_digest([repr(group)])}"
        if name not in self.out.sets:
            self._declare(name, f"type {_ADDRESS[version]};")
            ips = (ip for pod in self.state.members(group) for ip in pod.ips if _version(ip) == version)
            self.out.elements[name] = dict.fromkeys(ips, "")
        return name

    def _named(self, port: Port, rule: Rule, direction: Direction, policy: Policy) -> list[str]:
        """A name means what the receiving pods call so: another number for each of them."""
        receivers: list[Pods]
        if direction == "ingress":
            receivers = [policy.selects]
            senders = [match for peer in rule.peers for match in self._peer(peer, direction)] or [""]
        else:
            receivers = [peer for peer in rule.peers if isinstance(peer, Pods)] if rule.peers else [ALL_PODS]
            senders = [""]
        steps = []
        for receiver in receivers:
            for version in (4, 6):
                name = self._named_set(receiver, port, version)
                to = f"{_IP[version]} daddr . meta l4proto . th dport @{name} return"
                steps += [f"{sender} {to}".strip() for sender in senders if not sender or _fits(sender, version)]
        return steps

    def _named_set(self, receivers: Pods, port: Port, version: int) -> str:
        name = f"ports{version}-{_digest([repr(receivers), repr(port)])}"
        if name not in self.out.sets:
            self._declare(name, f"type {_ADDRESS[version]} . inet_proto . inet_service;")
            self.out.elements[name] = {
                f"{ip} . {protocol} . {number}": ""
                for pod in self.state.members(receivers)
                for called, protocol, number in pod.named_ports
                if (called, protocol) == (port.name, port.protocol)
                for ip in pod.ips
                if _version(ip) == version
            }
        return name


def _ports(port: Port | None) -> str:
    if port is None:
        return ""
    if not port.first:
        return f"meta l4proto {port.protocol}"
    number = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    return f"{port.protocol} dport {number}"


def _fits(match: str, version: int) -> bool:
    return match.startswith((f"{_IP[version]} ", f"meta nfproto ipv{version}"))


def _apart(ranges: Iterable[str]) -> list[str]:
    """The same addresses by ranges that do not overlap, as nft wants them."""
    return [str(n) for n in collapse_addresses(ip_network(r) for r in ranges)]  # type: ignore[type-var]


def _version(text: str) -> int:
    return 6 if ":" in text else 4


def _digest(parts: Iterable[str]) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
