"""Whether a configuration makes sense: everything that is wrong with it, in upstream's words.

Source: kube-proxy's pkg/proxy/apis/config/validation (field paths and messages).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, get_args

from agent.proxy.settings import DetectLocalMode
from machinery.addresses import is_address, is_cidr
from machinery.api.fielderror import FieldError, invalid, show
from machinery.settings import show_duration

if TYPE_CHECKING:
    from agent.proxy.configuration import ProxyConfiguration

MODES = ("iptables", "ipvs", "nftables")
PRIMARY = "primary"

_ROOT = "KubeProxyConfiguration"
_LINUX = f"{_ROOT}.KubeProxyLinuxConfiguration"
_CONNTRACK = f"{_LINUX}.KubeProxyConntrackConfiguration"
_IPVS = f"{_ROOT}.KubeProxyIPVSConfiguration"
_DETECT = f"{_ROOT}.DetectLocalConfiguration"
_NOT_NEGATIVE = "must be greater than or equal to 0"
_ONE_OR_A_PAIR = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"


def errors_of(given: ProxyConfiguration) -> list[FieldError]:
    """What is wrong, in upstream's order."""
    return [
        *_masquerading(given),
        *(_ipvs(given) if given.mode == "ipvs" else ()),
        *_linux(given),
        *_mode(given.mode),
        *_periods(given),
        *_addresses(given),
        *_node_port_addresses(given.node_port_addresses),
        *_detecting(given),
    ]


def _masquerading(given: ProxyConfiguration) -> Iterator[FieldError]:
    if not 0 <= given.masquerade_bit <= 31:
        section = "NFTables" if given.mode == "nftables" else "IPTables"
        where = f"{_ROOT}.KubeProxy{section}Configuration.MasqueradeBit"
        yield invalid(where, given.masquerade_bit, "must be within the range [0, 31]")


def _ipvs(given: ProxyConfiguration) -> Iterator[FieldError]:
    yield from _not_negative(f"{_IPVS}.TCPTimeout", given.ipvs.tcp_seconds)
    yield from _not_negative(f"{_IPVS}.TCPFinTimeout", given.ipvs.tcp_fin_seconds)
    yield from _not_negative(f"{_IPVS}.UDPTimeout", given.ipvs.udp_seconds)
    for number, cidr in enumerate(given.ipvs.exclude_cidrs):
        if not is_cidr(cidr):
            yield invalid(f"{_IPVS}.ExcludeCidrs[{number}]", cidr, "must be a valid CIDR")


def _linux(given: ProxyConfiguration) -> Iterator[FieldError]:
    conntrack = given.conntrack
    for name, count in (("MaxPerCore", conntrack.max_per_core), ("Min", conntrack.min)):
        if count < 0:
            yield invalid(f"{_CONNTRACK}.{name}", count, _NOT_NEGATIVE)
    yield from _not_negative(f"{_CONNTRACK}.TCPEstablishedTimeout", conntrack.tcp_established_seconds)
    yield from _not_negative(f"{_CONNTRACK}.TCPCloseWaitTimeout", conntrack.tcp_close_wait_seconds)
    yield from _not_negative(f"{_CONNTRACK}.UDPTimeout", conntrack.udp_seconds)
    yield from _not_negative(f"{_CONNTRACK}.UDPStreamTimeout", conntrack.udp_stream_seconds)
    if not -1000 <= given.oom_score_adj <= 1000:
        yield invalid(f"{_LINUX}.OOMScoreAdj", given.oom_score_adj, "must be within the range [-1000, 1000]")


def _mode(mode: str) -> Iterator[FieldError]:
    if mode not in MODES:
        said = f"must be {', '.join(MODES)} or blank (blank means the best-available proxy [currently iptables])"
        yield invalid(f"{_ROOT}.Mode.ProxyMode", mode, said)


def _periods(given: ProxyConfiguration) -> Iterator[FieldError]:
    if given.burst < 0:
        yield invalid(f"{_ROOT}.ClientConnection.Burst", given.burst, _NOT_NEGATIVE)
    if given.config_sync_seconds <= 0:
        shown = show_duration(given.config_sync_seconds)
        yield invalid(f"{_ROOT}.ConfigSyncPeriod", shown, "must be greater than 0")
    if given.sync_seconds <= 0:
        yield invalid(f"{_ROOT}.SyncPeriod", show_duration(given.sync_seconds), "must be greater than 0")
    yield from _not_negative(f"{_ROOT}.MinSyncPeriod", given.min_sync_seconds)
    if given.min_sync_seconds > given.sync_seconds:
        shown = show_duration(given.min_sync_seconds)
        yield invalid(f"{_ROOT}.SyncPeriod", shown, f"must be greater than or equal to {_ROOT}.MinSyncPeriod")


def _addresses(given: ProxyConfiguration) -> Iterator[FieldError]:
    if not is_address(given.bind_address):
        said = "not a valid textual representation of an IP address"
        yield invalid(f"{_ROOT}.BindAddress", given.bind_address, said)
    for name, text in (("Healthz", given.healthz_bind_address), ("Metrics", given.metrics_bind_address)):
        if text and not is_address(text):  # an address alone gets upstream's port
            yield from _host_port(f"{_ROOT}.{name}BindAddress", text)


def _host_port(where: str, text: str) -> Iterator[FieldError]:
    """Port 0, which upstream refuses, takes a free one."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        yield invalid(where, text, "must be IP:port")
        return
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(host):
        yield invalid(where, host, "must be a valid IP")
    if not port.isdigit() or int(port) > 65535:
        yield invalid(where, port, "must be a valid port")


def _node_port_addresses(entries: Sequence[str]) -> Iterator[FieldError]:
    for number, entry in enumerate(entries):
        where = f"{_ROOT}.NodePortAddresses[{number}]"
        if entry == PRIMARY:
            if len(entries) != 1:
                yield invalid(where, entry, "can't use both 'primary' and CIDRs")
            return
        if not is_cidr(entry):
            yield invalid(where, entry, "must be a valid CIDR")


def _detecting(given: ProxyConfiguration) -> Iterator[FieldError]:
    modes = get_args(DetectLocalMode)
    if given.detect_local_mode not in modes:
        said = ", ".join(show(mode) for mode in (*modes[1:], ""))
        shown = show(given.detect_local_mode)
        body = f"Unsupported value: {shown}: supported values: {said}"
        yield FieldError("FieldValueNotSupported", f"{_ROOT}.DetectLocalMode", body)
    match given.detect_local_mode or "ClusterCIDR":
        case "BridgeInterface" if not given.bridge_interface:
            yield invalid(f"{_DETECT}.InterfaceName", "", "must not be empty")
        case "InterfaceNamePrefix" if not given.interface_name_prefix:
            yield invalid(f"{_DETECT}.InterfacePrefix", "", "must not be empty")
        case "ClusterCIDR":
            yield from _cluster_cidrs(given.cluster_cidrs)


def _cluster_cidrs(cidrs: Sequence[str]) -> Iterator[FieldError]:
    where = f"{_DETECT}.ClusterCIDRs"
    if len(cidrs) > 2:
        yield invalid(where, list(cidrs), _ONE_OR_A_PAIR)
        return
    for number, cidr in enumerate(cidrs):
        if not is_cidr(cidr):
            said = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
            yield invalid(f"{where}[{number}]", cidr, said)
    families = [ip_network(cidr, strict=False).version for cidr in cidrs if is_cidr(cidr)]
    if len(families) == 2 and len(set(families)) == 1:
        yield invalid(where, list(cidrs), _ONE_OR_A_PAIR)


def _not_negative(where: str, seconds: float) -> Iterator[FieldError]:
    if seconds < 0:
        yield invalid(where, show_duration(seconds), _NOT_NEGATIVE)
