"""What the DNS server is told, read from a Corefile: kubeadm's, and what people usually make of it.

A directive that is not known is refused by name, so that nobody believes in what does not happen.

Source: https://coredns.io/plugins/ (kubernetes, forward, cache, health, ready, prometheus, reload, …); kubeadm's
addons/dns Corefile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from agent.dns.corefile import Directive, ServerBlock, parse
from machinery.errors import SettingsError
from machinery.settings import duration

DNS_PORT = 53
REVERSE_ZONES = ("in-addr.arpa", "ip6.arpa")
POD_MODES = ("disabled", "insecure", "verified")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The names that come from the cluster."""

    zones: tuple[str, ...]
    """Without a final dot; the first is the one that answers carry."""
    pods: str = "disabled"
    """insecure: any address under any namespace; verified: those of pods; disabled: none."""
    ttl_seconds: int = 5
    fallthrough: tuple[str, ...] = ()
    """Zones whose unknown names are asked upstream; "" is every zone."""


@dataclass(frozen=True, slots=True)
class Caching:
    """How long answers from upstream are kept at most."""

    success_seconds: int = 3600
    denial_seconds: int = 1800
    entries: int = 9984


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a Corefile says."""

    port: int = DNS_PORT
    kubernetes: Kubernetes | None = None
    upstreams: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    """Zone ("" for all) -> resolvers. A zone without any is answered with REFUSED."""
    caching: Caching | None = None
    health: Address | None = None
    lameduck_seconds: float = 0.0
    """How long queries are still answered after SIGTERM, while nobody is sent here any more."""
    ready: Address | None = None
    metrics: Address | None = None
    reload_seconds: float = 0.0
    """Between two looks at the file; 0: never."""


def load(path: Path) -> Configuration:
    """Read a file. Raises SettingsError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8") from error
    return read(text)


def read(text: str) -> Configuration:
    """What a Corefile's text says. Raises SettingsError that names the line."""
    blocks = parse(text)
    if not blocks:
        raise SettingsError("Corefile: there is no server block in it")
    made = Configuration(port=0)
    for block in blocks:
        zones = _zones_of(block, made.port)
        made = replace(made, port=zones[0][1])
        for directive in block.directives:
            reader = _DIRECTIVES.get(directive.name)
            if reader is None:
                known = ", ".join(sorted(_DIRECTIVES))
                raise SettingsError(f"Corefile:{directive.line}: {directive.name}: not supported; known are {known}")
            try:
                made = reader(made, directive, tuple(zone for zone, _ in zones))
            except ValueError as error:
                raise SettingsError(f"Corefile:{directive.line}: {directive.name}: {error}") from error
    return made


def _zones_of(block: ServerBlock, port: int) -> list[tuple[str, int]]:
    found = []
    for key in block.keys:
        scheme, separator, rest = key.partition("://")
        if separator and scheme != "dns":
            raise SettingsError(f"Corefile:{block.line}: {key}: only plain DNS is supported")
        name, colon, number = (rest if separator else key).rpartition(":")
        if not colon:
            name, number = number, str(DNS_PORT)
        if not number.isdigit() or int(number) > 65535:
            raise SettingsError(f"Corefile:{block.line}: {key}: is not ZONE:PORT")
        if port and int(number) != port:
            raise SettingsError(f"Corefile:{block.line}: {key}: all zones must have one port")
        port = int(number)
        found.append((zone_name(name), port))
    return found


def zone_name(text: str) -> str:
    """In lower case and without a final dot; "" for the root."""
    return text.lower().rstrip(".")


# -- directives ------------------------------------------------------------------------------------------------------

_Reader = Callable[[Configuration, Directive, Sequence[str]], Configuration]


def _nothing(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    """What this server always does, or what makes no difference to answers."""
    return made


def _kubernetes(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    if made.kubernetes is not None:
        raise ValueError("there can be one only")
    found = Kubernetes(tuple(zone_name(z) for z in said.arguments or zones))
    for option in said.block:
        match option.name, option.arguments:
            case "pods", (mode,) if mode in POD_MODES:
                found = replace(found, pods=mode)
            case "ttl", (seconds,) if seconds.isdigit() and int(seconds) <= 3600:
                found = replace(found, ttl_seconds=int(seconds))
            case "fallthrough", named:
                found = replace(found, fallthrough=tuple(zone_name(z) for z in named) or ("",))
            case "upstream", _:  # has had no effect for long
                pass
            case name, arguments:
                raise ValueError(f"{' '.join([name, *arguments])}: not supported")
    return replace(made, kubernetes=found)


def _forward(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    if len(said.arguments) < 2:
        raise ValueError("needs a zone and at least one resolver")
    zone, *targets = said.arguments
    resolvers = [address for target in targets for address in _resolvers(target)]
    names = zones if zone == "." else [zone_name(zone)]
    return replace(made, upstreams=made.upstreams | {name: tuple(resolvers) for name in names})


def _resolvers(target: str) -> list[Address]:
    if target.startswith("/"):
        return resolv_conf(Path(target))
    return [_address(target.removeprefix("dns://"), DNS_PORT)]


def resolv_conf(path: Path) -> list[Address]:
    """The name servers of a file like /etc/resolv.conf; none if there is no such file."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
    return [_address(line[1], DNS_PORT) for line in words if len(line) > 1 and line[0] == "nameserver"]


def _cache(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    found = made.caching or Caching()
    if said.arguments and said.arguments[0].isdigit():
        longest = int(said.arguments[0])
        found = replace(found, success_seconds=longest, denial_seconds=longest)
    for option in said.block:
        match option.name, option.arguments:
            case "success", (entries, *rest):
                found = replace(found, entries=int(entries), success_seconds=_number(rest, found.success_seconds))
            case "denial", (_, *rest):
                found = replace(found, denial_seconds=_number(rest, found.denial_seconds))
            case "disable" | "prefetch" | "servfail" | "keepttl", _:
                pass  # the cluster's own names never come from this cache; the others only save time
            case name, arguments:
                raise ValueError(f"{' '.join([name, *arguments])}: not supported")
    return replace(made, caching=found)


def _number(words: Sequence[str], default: int) -> int:
    return int(words[0]) if words else default


def _health(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    lameduck = 0.0
    for option in said.block:
        if option.name != "lameduck" or len(option.arguments) != 1:
            raise ValueError(f"{option.name}: not supported")
        lameduck = duration(option.arguments[0])
    return replace(made, health=_bind(said, 8080), lameduck_seconds=lameduck)


def _ready(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    return replace(made, ready=_bind(said, 8181))


def _prometheus(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    return replace(made, metrics=_bind(said, 9153, "localhost"))


def _reload(made: Configuration, said: Directive, zones: Sequence[str]) -> Configuration:
    return replace(made, reload_seconds=duration(said.arguments[0]) if said.arguments else 30.0)


_DIRECTIVES: dict[str, _Reader] = {
    "cache": _cache,
    "errors": _nothing,
    "forward": _forward,
    "health": _health,
    "kubernetes": _kubernetes,
    "loadbalance": _nothing,
    "log": _nothing,
    "loop": _nothing,
    "prometheus": _prometheus,
    "ready": _ready,
    "reload": _reload,
}


def _bind(said: Directive, port: int, host: str = "") -> Address:
    """`:8080` or `1.2.3.4:8080`, as a place to listen; "" is every address."""
    if not said.arguments:
        return host, port
    name, _, number = said.arguments[0].rpartition(":")
    if not number.isdigit():
        raise ValueError(f"{said.arguments[0]!r} is not ADDRESS:PORT")
    return name.strip("[]"), int(number)


def _address(text: str, port: int) -> Address:
    host, colon, number = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not text.startswith("[")):
        host, number = text, str(port)
    host = host.strip("[]").partition("%")[0]
    ip_address(host)  # raises ValueError
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return host, int(number)
