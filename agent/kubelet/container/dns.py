"""How a pod resolves names: dnsPolicy, dnsConfig and the node's own resolv.conf.

Source: DNS for Services and Pods; kubelet's network/dns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.cri import api_pb2 as pb
from agent.kubelet.container.errors import StartError
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.api.meta import Object

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_DOMAIN_CHARS = 253  # some resolvers abort the program when a search path is longer


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """The three kinds of line of a resolv.conf; `warnings` are for the user, as DNSConfigForming events."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()  # (event reason, message)

    def to_cri(self) -> pb.DNSConfig:
        """For the runtime."""
        return pb.DNSConfig(servers=self.servers, searches=self.searches, options=self.options)


NO_RESOLUTION = DnsConfig(("127.0.0.1",), (".",))
"""Of a node without a resolv.conf: nothing is looked up anywhere."""


def parse_resolv_conf(text: str) -> DnsConfig:
    """Read a resolv.conf."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split(";", 1)[0].split()
        if not fields:
            continue
        if fields[0] == "nameserver" and len(fields) > 1:
            servers.append(fields[1])
        elif fields[0] == "search":
            # The last search line counts; a trailing dot makes no difference to the resolver.
            searches = [part if part == "." else part.removesuffix(".") for part in fields[1:]]
        elif fields[0] == "options":
            options |= {option.partition(":")[0]: option for option in fields[1:]}
    return DnsConfig(tuple(servers), tuple(searches), tuple(options.values()))


def host_config(path: str) -> DnsConfig:
    """The node's own configuration; an empty path turns name resolution off. Raises StartError."""
    if not path:
        return NO_RESOLUTION
    try:
        return parse_resolv_conf(Path(path).read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise StartError(f"failed to read the resolver configuration {path}: {error.strerror}") from error


def pod_config(pod: Object, host: DnsConfig, cluster_dns: Iterable[str], cluster_domain: str) -> DnsConfig:
    """What goes into a pod's resolv.conf."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    servers = tuple(cluster_dns)
    warnings: list[tuple[str, str]] = []
    in_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.is_host_network(pod))
    if policy == "None":
        config = DnsConfig()
    elif in_cluster and servers:
        searches = () if host == NO_RESOLUTION else host.searches
        config = DnsConfig(servers, _cluster_searches(pod, cluster_domain, searches), ("ndots:5",))
    else:
        if in_cluster:
            warnings.append(
                (
                    "MissingClusterDNS",
                    f'pod: "{spec.describe(pod)}". kubelet does not have ClusterDNS IP configured and cannot create '
                    f'Pod using "ClusterFirst" policy. Falling back to "Default" policy.',
                )
            )
        config = replace(host, warnings=())
    own = pod["spec"].get("dnsConfig")
    if own:
        config = _merged(config, own)
    return _limited(replace(config, warnings=tuple(warnings)))


def _cluster_searches(pod: Object, domain: str, host_searches: Iterable[str]) -> tuple[str, ...]:
    if not domain:
        return tuple(host_searches)
    of_cluster = [f"{meta.namespace_of(pod)}.svc.{domain}", f"svc.{domain}", domain]
    return _unique([*of_cluster, *host_searches])


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _merged(config: DnsConfig, own: Object) -> DnsConfig:
    options = {option.partition(":")[0]: option for option in config.options}
    for option in own.get("options") or ():
        name, value = option["name"], option.get("value")
        options[name] = f"{name}:{value}" if value else name
    return DnsConfig(
        _unique([*config.servers, *(own.get("nameservers") or ())]),
        _unique([*config.searches, *(own.get("searches") or ())]),
        tuple(options.values()),
    )


def _limited(config: DnsConfig) -> DnsConfig:
    servers, searches, warnings = config.servers, config.searches, list(config.warnings)
    if len(servers) > MAX_NAMESERVERS:
        servers = servers[:MAX_NAMESERVERS]
        warnings.append(
            (
                "DNSConfigForming",
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
                + " ".join(servers),
            )
        )
    kept = tuple(search for search in searches[:MAX_SEARCHES] if len(search) <= MAX_DOMAIN_CHARS)
    while len(" ".join(kept)) > MAX_SEARCH_CHARS:
        kept = kept[:-1]
    if kept != searches:
        warnings.append(
            (
                "DNSConfigForming",
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
                + " ".join(kept),
            )
        )
    return DnsConfig(servers, kept, config.options, tuple(warnings))
