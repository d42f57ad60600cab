"""URLs, IP addresses and CIDRs.

Source: k8s.io/apiserver/pkg/cel/library/{urls,ip,cidr}.go.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes, urlsplit

from machinery.cel.declarations import overload
from machinery.cel.errors import EvaluationError
from machinery.cel.library import netip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IP, _CIDR, _URL = "net.IP", "net.CIDR", "kubernetes.URL"


@dataclass(frozen=True, slots=True)
class IP:
    """net.IP."""

    type_name: ClassVar[str] = _IP
    address: Address


@dataclass(frozen=True, slots=True)
class CIDR:
    """net.CIDR: a network, with the address as it was written."""

    type_name: ClassVar[str] = _CIDR
    address: Address
    network: Network


@dataclass(frozen=True, slots=True)
class URL:
    """kubernetes.URL."""

    type_name: ClassVar[str] = _URL
    scheme: str
    host: str
    hostname: str
    port: str
    path: str
    query: str


def parse_ip(text: str) -> IP:
    """An address, without zone and not IPv4 in IPv6. Raises EvaluationError."""
    if wrong := netip.why(text):
        raise EvaluationError(f'IP Address "{text}" parse error during conversion from string: {wrong}')
    if "%" in text:
        raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return IP(address)


def parse_cidr(text: str) -> CIDR:
    """A network in CIDR notation. Raises EvaluationError."""
    if wrong := netip.why_prefix(text):
        told = "network address parse error during conversion from string: "  # upstream says it twice
        raise EvaluationError(f"{told}{told}{wrong}")
    address = ipaddress.ip_address(text.partition("/")[0])
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return CIDR(address, network)


def _reads(parse: object) -> object:
    def check(text: str) -> bool:
        try:
            parse(text)  # type: ignore[operator]
        except EvaluationError:
            return False
        return True

    return check


def _contains_ip(cidr: CIDR, other: IP | str) -> bool:
    ip = parse_ip(other) if isinstance(other, str) else other
    return ip.address.version == cidr.network.version and ip.address in cidr.network


def _contains_cidr(cidr: CIDR, other: CIDR | str) -> bool:
    inner = parse_cidr(other) if isinstance(other, str) else other
    return (
        inner.network.version == cidr.network.version
        and inner.network.prefixlen >= cidr.network.prefixlen
        and inner.network.network_address in cidr.network
    )


def _masked(cidr: CIDR) -> CIDR:
    return CIDR(cidr.network.network_address, cidr.network)


def _link_local_multicast(ip: IP) -> bool:
    block = "224.0.0.0/24" if ip.address.version == 4 else "ff02::/16"
    return ip.address in ipaddress.ip_network(block)


def _global_unicast(ip: IP) -> bool:
    address = ip.address
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    return not (
        broadcast or address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    )


def _is_canonical(text: str) -> bool:
    return str(parse_ip(text).address) == text


def parse_url(text: str) -> URL:
    """An absolute URL or an absolute path. Raises EvaluationError."""
    bad = f'URL parse error during conversion from string: parse "{text}": '
    if not (text.startswith("/") or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text)):
        raise EvaluationError(f"{bad}invalid URI for request")
    if any(c < " " or c == "\x7f" for c in text):
        raise EvaluationError(f"{bad}net/url: invalid control character in URL")
    if found := re.search(r"%(?![0-9a-fA-F]{2}).{0,2}", text, re.DOTALL):
        raise EvaluationError(f'{bad}invalid URL escape "{found[0]}"')
    try:
        parts = urlsplit(text)
        port = parts.netloc.rpartition("@")[2].rpartition("]")[2].rpartition(":")
        if parts.port is not None and not port[2].isdigit():
            raise ValueError
    except ValueError:
        raise EvaluationError(f"{bad}invalid port or host") from None
    host = parts.netloc.rpartition("@")[2]
    hostname = re.sub(r":\d*\Z", "", host).strip("[]")
    number = host.rpartition(":")[2] if re.search(r":\d+\Z", host) else ""
    return URL(parts.scheme, host, hostname, number, parts.path, parts.query)


_VALID_PATH = re.compile(r"[A-Za-z0-9\-_.~$&+,/:;=@!'()*\[\]%]*", re.ASCII)


def _escaped_path(url: URL) -> str:
    """The path as it was written, if it can stand in a URL like that. Source: Go's net/url (EscapedPath)."""
    if _VALID_PATH.fullmatch(url.path):
        return url.path
    return quote(unquote_to_bytes(url.path), safe="$&+,/:;=@")


def _query(url: URL) -> dict[str, list[str]]:
    return {unquote(key): values for key, values in parse_qs(url.query, keep_blank_values=True).items()}


FUNCTIONS: Final = [
    overload("string_to_ip", f"ip(string) {_IP}", parse_ip),
    overload("is_ip", "isIP(string) bool", _reads(parse_ip)),  # type: ignore[arg-type]
    overload("ip_is_canonical", "ip.isCanonical(string) bool", _is_canonical),
    overload("ip_family", f"{_IP}.family() int", lambda ip: ip.address.version),
    overload("ip_is_unspecified", f"{_IP}.isUnspecified() bool", lambda ip: ip.address.is_unspecified),
    overload("ip_is_loopback", f"{_IP}.isLoopback() bool", lambda ip: ip.address.is_loopback),
    overload("ip_is_link_local_multicast", f"{_IP}.isLinkLocalMulticast() bool", _link_local_multicast),
    overload("ip_is_link_local_unicast", f"{_IP}.isLinkLocalUnicast() bool", lambda ip: ip.address.is_link_local),
    overload("ip_is_global_unicast", f"{_IP}.isGlobalUnicast() bool", _global_unicast),
    overload("ip_to_string", f"string({_IP}) string", lambda ip: str(ip.address)),
    overload("string_to_cidr", f"cidr(string) {_CIDR}", parse_cidr),
    overload("is_cidr", "isCIDR(string) bool", _reads(parse_cidr)),  # type: ignore[arg-type]
    overload("cidr_contains_ip_string", f"{_CIDR}.containsIP(string) bool", _contains_ip),
    overload("cidr_contains_ip_ip", f"{_CIDR}.containsIP({_IP}) bool", _contains_ip),
    overload("cidr_contains_cidr_string", f"{_CIDR}.containsCIDR(string) bool", _contains_cidr),
    overload("cidr_contains_cidr", f"{_CIDR}.containsCIDR({_CIDR}) bool", _contains_cidr),
    overload("cidr_ip", f"{_CIDR}.ip() {_IP}", lambda cidr: IP(cidr.address)),
    overload("cidr_prefix_length", f"{_CIDR}.prefixLength() int", lambda cidr: cidr.network.prefixlen),
    overload("cidr_masked", f"{_CIDR}.masked() {_CIDR}", _masked),
    overload("cidr_to_string", f"string({_CIDR}) string", lambda cidr: f"{cidr.address}/{cidr.network.prefixlen}"),
    overload("string_to_url", f"url(string) {_URL}", parse_url),
    overload("is_url_string", "isURL(string) bool", _reads(parse_url)),  # type: ignore[arg-type]
    overload("url_get_scheme", f"{_URL}.getScheme() string", lambda url: url.scheme),
    overload("url_get_host", f"{_URL}.getHost() string", lambda url: url.host),
    overload("url_get_hostname", f"{_URL}.getHostname() string", lambda url: url.hostname),
    overload("url_get_port", f"{_URL}.getPort() string", lambda url: url.port),
    overload("url_get_escaped_path", f"{_URL}.getEscapedPath() string", _escaped_path),
    overload("url_get_query", f"{_URL}.getQuery() map(string, list(string))", _query),
]
