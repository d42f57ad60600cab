"""The flags of kube-apiserver that are understood, and how they become settings.

A flag that is neither here nor among the harmless ones is refused by name: better than to run without what it asks.

Source: kube-apiserver 1.36 --help.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controlplane.apiserver.settings import Settings
from machinery import tlsflags
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet, boolean, duration, strings

PROGRAM = "kube-apiserver"


def _port_range(text: str) -> tuple[int, int]:
    if "+" in text:
        base, _, size = text.partition("+")
        return int(base), int(base) + int(size)
    first, dash, last = text.partition("-")
    low, high = int(first), int(last) if dash else int(first)
    if not 0 <= low <= high <= 65535:
        raise ValueError("ports are from 0 to 65535, the first not above the last")
    return low, high


def _log_level(text: str) -> int:
    return int(text)


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError("a port is from 0 to 65535")
    return number


def _pair(text: str) -> list[tuple[str, str]]:
    claim, equals, value = text.partition("=")
    if not equals:
        raise ValueError("key=value is needed")
    return [(claim, value)]


def _switches(text: str) -> list[tuple[str, str]]:
    found = []
    for part in text.split(","):
        name, _, value = part.partition("=")
        if value.lower() not in ("", "true", "false", "1", "0"):
            raise ValueError(f"{part!r}: true or false is needed")
        found.append((name.strip(), "false" if value.lower() in ("false", "0") else "true"))
    return found


def _sni(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    files, colon, patterns = text.partition(":")
    certificate, comma, key = files.partition(",")
    if not comma or not certificate or not key:
        raise ValueError("expected comma separated certificate and key file paths")
    if colon and not patterns:
        raise ValueError("empty names list")
    return [(certificate, key, tuple(patterns.split(",")) if patterns else ())]


FLAGS = (
    Flag("admission-control-config-file", str, "", "File with admission control configuration."),
    Flag("advertise-address", str, "", "The IP address on which to advertise the apiserver to the cluster."),
    Flag("allow-privileged", boolean, False, "If true, allow privileged containers."),
    Flag("anonymous-auth", boolean, True, "Enables anonymous requests to the secure port."),
    Flag("api-audiences", strings, [], "Identifiers of the API."),
    Flag("audit-log-compress", boolean, False, "If set, rotated log files are compressed by gzip."),
    Flag("audit-log-format", str, "json", "Format of saved audits: json."),
    Flag("audit-log-maxage", int, 366, "Days to retain old audit log files."),
    Flag("audit-log-maxbackup", int, 100, "Old audit log files to retain; 0 retains all."),
    Flag("audit-log-maxsize", int, 100, "Megabytes of the audit log file before it gets rotated."),
    Flag("audit-log-mode", str, "blocking", "How audit events are sent: blocking, as all writes to files are."),
    Flag("audit-log-path", str, "", "If set, all requests coming to the apiserver will be logged to this file."),
    Flag("audit-webhook-batch-max-size", int, 400, "The maximum size of a batch."),
    Flag("audit-webhook-batch-max-wait", duration, 30.0, "How long to wait before sending a batch that is not full."),
    Flag("audit-webhook-config-file", str, "", "kubeconfig of the server that audit events are sent to."),
    Flag("audit-webhook-mode", str, "batch", "How audit events are sent to the webhook: batch."),
    Flag("audit-policy-file", str, "", "Path to the file that defines the audit policy configuration."),
    Flag("authentication-token-webhook-config-file", str, "", "kubeconfig of the token authentication webhook."),
    Flag("authentication-config", str, "", "File with Authentication Configuration: trusted issuers of tokens."),
    Flag("authorization-config", str, "", "File with Authorization Configuration: the authorizers in order."),
    Flag("authorization-mode", strings, [], "Ordered list of authorizers."),
    Flag("authorization-policy-file", str, "", "Policy of --authorization-mode=ABAC, a JSON object a line."),
    Flag("authorization-webhook-config-file", str, "", "kubeconfig of the authorization webhook."),
    Flag("bind-address", str, "0.0.0.0", "The IP address on which to listen for the --secure-port port."),
    Flag("cert-dir", str, "/var/run/kubernetes", "Where a self-signed certificate is put if none is given."),
    Flag("client-ca-file", str, "", "CA bundle that client certificates are verified with."),
    Flag("cors-allowed-origins", strings, [], "List of allowed origins for CORS."),
    Flag("disable-admission-plugins", strings, [], "Admission plugins that should be disabled."),
    Flag("default-not-ready-toleration-seconds", int, 300, "How long pods stay on nodes that are not ready."),
    Flag("default-unreachable-toleration-seconds", int, 300, "How long pods stay on nodes that are unreachable."),
    Flag("enable-admission-plugins", strings, [], "Admission plugins that should be enabled."),
    Flag("enable-aggregator-routing", boolean, False, "Route aggregated requests to endpoint IPs."),
    Flag("enable-priority-and-fairness", boolean, True, "Replace the max-in-flight handler with an enhanced one."),
    Flag("enable-bootstrap-token-auth", boolean, False, "Allow secrets of bootstrap tokens to authenticate."),
    Flag("encryption-provider-config", str, "", "Configuration of encryption at rest."),
    Flag(
        "encryption-provider-config-automatic-reload",
        boolean,
        False,
        "Reload the file of --encryption-provider-config when it changes.",
    ),
    Flag("endpoint-reconciler-type", str, "lease", "lease or none."),
    Flag("etcd-cafile", str, "", "CA that secures communication with etcd."),
    Flag("etcd-certfile", str, "", "Certificate that secures communication with etcd."),
    Flag("etcd-compaction-interval", duration, 300.0, "The interval of compaction requests; 0 disables them."),
    Flag("etcd-healthcheck-timeout", duration, 2.0, "The timeout of checking etcd's health."),
    Flag("etcd-keyfile", str, "", "Key that secures communication with etcd."),
    Flag("etcd-prefix", str, "/registry", "The prefix to prepend to all resource paths in etcd."),
    Flag("etcd-readycheck-timeout", duration, 2.0, "The timeout of checking etcd's readiness."),
    Flag("etcd-servers", strings, [], "List of etcd servers to connect with."),
    Flag("event-ttl", duration, 3600.0, "Amount of time to retain events."),
    Flag("external-hostname", str, "", "The hostname to use when generating externalized URLs."),
    Flag("identity-lease-duration-seconds", int, 3600, "How long the server's own Lease is good, in seconds."),
    Flag("identity-lease-renew-interval-seconds", int, 10, "How often that is renewed, in seconds."),
    Flag("kubelet-certificate-authority", str, "", "CA that kubelets' serving certificates are verified with."),
    Flag("kubelet-client-certificate", str, "", "Client certificate for kubelets."),
    Flag("kubelet-client-key", str, "", "Key of the client certificate for kubelets."),
    Flag(
        "kubelet-preferred-address-types",
        strings,
        ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"],
        "Which node address to use for kubelet connections, the first that there is.",
    ),
    Flag("kubelet-timeout", duration, 5.0, "Timeout for kubelet operations."),
    Flag("max-mutating-requests-inflight", int, 200, "Concurrency of mutating requests."),
    Flag("max-requests-inflight", int, 400, "Concurrency of other requests."),
    Flag("min-request-timeout", int, 1800, "Seconds that a watch without a timeout lives at least."),
    Flag("oidc-ca-file", str, "", "CA that the OpenID issuer's certificate is verified with."),
    Flag("oidc-client-id", str, "", "The client ID of the OpenID Connect client, which tokens must be for."),
    Flag("oidc-groups-claim", str, "", "OpenID Connect claim of the user's groups."),
    Flag("oidc-groups-prefix", str, "", "Is put before all groups."),
    Flag("oidc-issuer-url", str, "", "The URL of the OpenID issuer; only https is accepted."),
    Flag("oidc-required-claim", _pair, [], "A key=value pair that tokens must have; may come again."),
    Flag("oidc-signing-algs", strings, ["RS256"], "Allowed JOSE asymmetric signing algorithms."),
    Flag("oidc-username-claim", str, "sub", "OpenID Connect claim of the user's name."),
    Flag("oidc-username-prefix", str, "", "Is put before names; - for none; by default the issuer's URL and #."),
    Flag("profiling", boolean, True, "Enable profiling via web interface host:port/debug/pprof/."),
    Flag("proxy-client-cert-file", str, "", "Certificate to prove who the aggregator is."),
    Flag("proxy-client-key-file", str, "", "Key to prove who the aggregator is."),
    Flag("request-timeout", duration, 60.0, "How long a request may take."),
    Flag("requestheader-allowed-names", strings, [], "Client certificate names that may name users in headers."),
    Flag("requestheader-client-ca-file", str, "", "CA bundle that front proxies' certificates are verified with."),
    Flag("requestheader-extra-headers-prefix", strings, [], "Header prefixes to inspect for extra."),
    Flag("requestheader-group-headers", strings, [], "Headers to inspect for groups."),
    Flag("requestheader-uid-headers", strings, [], "Headers to inspect for UIDs."),
    Flag("requestheader-username-headers", strings, [], "Headers to inspect for usernames."),
    Flag("runtime-config", _switches, [], "Group versions to turn on or off: batch/v1=false, api/beta=true, …"),
    Flag("secure-port", _port, 6443, "The port on which to serve HTTPS."),
    Flag("service-account-extend-token-expiration", boolean, True, "Extend the expiry of projected tokens."),
    Flag("service-account-issuer", strings, [], "Identifier of the service account token issuer; may come again."),
    Flag("service-account-jwks-uri", str, "", "Overrides the JWKS URI of the discovery document."),
    Flag("service-account-key-file", strings, [], "Keys that service account tokens are verified with."),
    Flag("service-account-lookup", boolean, True, "Check that ServiceAccount tokens exist in etcd."),
    Flag("service-account-max-token-expiration", duration, 0.0, "The longest that a token may be asked for."),
    Flag("service-account-signing-key-file", str, "", "Key that signs service account tokens."),
    Flag("service-cluster-ip-range", strings, ["10.0.0.0/24"], "CIDRs from which to assign service cluster IPs."),
    Flag("service-node-port-range", _port_range, (30000, 32767), "Ports reserved for services of type NodePort."),
    Flag("shutdown-delay-duration", duration, 0.0, "Time to delay the termination."),
    Flag("shutdown-send-retry-after", boolean, False, "Refuse requests with Retry-After while terminating."),
    Flag("shutdown-watch-termination-grace-period", duration, 0.0, "How long watches may go on while terminating."),
    Flag("strict-transport-security-directives", strings, [], "Directives for HSTS, for answers over HTTPS."),
    Flag("tls-cert-file", str, "", "The serving certificate, with intermediates."),
    *tlsflags.FLAGS,
    Flag("tls-private-key-file", str, "", "Key of --tls-cert-file."),
    Flag("tls-sni-cert-key", _sni, [], "A certificate and key for some host names: cert,key[:name,…]; may come again."),
    Flag("token-auth-file", str, "", "File of static tokens."),
    Flag("v", _log_level, 0, "number for the log level verbosity"),
)

HARMLESS = (
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "apiserver-count",
    "audit-log-batch-buffer-size",
    "audit-log-batch-max-size",
    "audit-log-batch-max-wait",
    "audit-log-batch-throttle-burst",
    "audit-log-batch-throttle-enable",
    "audit-log-batch-throttle-qps",
    "audit-log-version",
    "audit-webhook-batch-buffer-size",
    "audit-webhook-batch-throttle-burst",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-batch-throttle-qps",
    "audit-webhook-initial-backoff",
    "audit-webhook-version",
    "authentication-token-webhook-cache-ttl",
    "authentication-token-webhook-version",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "authorization-webhook-version",
    "contention-profiling",
    "coordinated-leadership-lease-duration",
    "coordinated-leadership-renew-deadline",
    "coordinated-leadership-retry-period",
    "default-watch-cache-size",
    "delete-collection-workers",
    "disable-http2-serving",
    "disabled-metrics",
    "enable-garbage-collector",
    "enable-logs-handler",
    "etcd-count-metric-poll-period",
    "etcd-db-metric-poll-interval",
    "feature-gates",
    "goaway-chance",
    "help",
    "http2-max-streams-per-connection",
    "kubelet-port",
    "kubelet-read-only-port",
    "kubernetes-service-node-port",
    "lease-reuse-duration-seconds",
    "livez-grace-period",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "logging-format",
    "max-connection-bytes-per-sec",
    "permit-address-sharing",
    "permit-port-sharing",
    "show-hidden-metrics-for-version",
    "storage-backend",
    "storage-initialization-timeout",
    "storage-media-type",
    "target-ram-mb",
    "tls-curve-preferences",
    "vmodule",
    "watch-cache",
    "watch-cache-sizes",
)
"""Upstream's flags that ask for nothing this server would do differently."""

_FILES = (
    "audit-policy-file",
    "audit-webhook-config-file",
    "authentication-config",
    "authorization-config",
    "authorization-policy-file",
    "client-ca-file",
    "encryption-provider-config",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "kubelet-certificate-authority",
    "kubelet-client-certificate",
    "kubelet-client-key",
    "oidc-ca-file",
    "proxy-client-cert-file",
    "proxy-client-key-file",
    "requestheader-client-ca-file",
    "service-account-signing-key-file",
    "tls-cert-file",
    "tls-private-key-file",
    "token-auth-file",
)
_PAIRS = (
    ("tls-cert-file", "tls-private-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("kubelet-client-certificate", "kubelet-client-key"),
    ("proxy-client-cert-file", "proxy-client-key-file"),
)
# flags whose setting has another name; the others only swap - for _
_RENAMED = {
    "audit-webhook-batch-max-wait": "audit_webhook_batch_max_wait_seconds",
    "authorization-mode": "authorization_modes",
    "etcd-compaction-interval": "etcd_compaction_interval_seconds",
    "etcd-healthcheck-timeout": "etcd_healthcheck_seconds",
    "etcd-readycheck-timeout": "etcd_readycheck_seconds",
    "event-ttl": "event_ttl_seconds",
    "kubelet-timeout": "kubelet_timeout_seconds",
    "min-request-timeout": "min_request_timeout_seconds",
    "request-timeout": "request_timeout_seconds",
    "service-account-issuer": "service_account_issuers",
    "service-account-key-file": "service_account_key_files",
    "service-account-max-token-expiration": "service_account_max_token_expiration_seconds",
    "service-cluster-ip-range": "service_cluster_ip_ranges",
    "shutdown-delay-duration": "shutdown_delay_seconds",
    "shutdown-watch-termination-grace-period": "shutdown_watch_termination_grace_seconds",
    "v": "verbosity",
}


def parse(arguments: Sequence[str]) -> Settings:
    """The settings that a command line asks for, checked. Raises SettingsError naming the flag."""
    values = FlagSet(PROGRAM, FLAGS, HARMLESS).parse(arguments)
    _check_files(values)
    _check_ranges(values["service-cluster-ip-range"])
    if not values["etcd-servers"]:
        raise SettingsError("--etcd-servers must be specified")
    if values["endpoint-reconciler-type"] not in ("lease", "none"):
        raise SettingsError("--endpoint-reconciler-type: only lease and none are supported")
    for name in ("identity-lease-duration-seconds", "identity-lease-renew-interval-seconds"):
        if values[name] <= 0:
            raise SettingsError(f"--{name} should be a positive number, but value '{values[name]}' provided")
    _check_audit(values)
    _check_authorization(values)
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name in _CHECKED_ONLY:
            continue
        field = _RENAMED.get(name, name.replace("-", "_"))
        made[field] = tuple(value) if isinstance(value, list) else value
    made["advertise_address"] = made["advertise_address"] or _advertised(made["bind_address"])
    return Settings(**made, flags=tuple((name, _shown(value)) for name, value in values.items()))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _check_files(values: dict[str, Any]) -> None:
    for name in _FILES:
        if values[name] and not Path(values[name]).is_file():
            raise SettingsError(f"--{name}: no such file: {values[name]}")
    for name in values["service-account-key-file"]:
        if not Path(name).is_file():
            raise SettingsError(f"--service-account-key-file: no such file: {name}")
    for one, other in _PAIRS:
        if bool(values[one]) != bool(values[other]):
            raise SettingsError(f"--{one} and --{other} go together")


_CHECKED_ONLY = ("audit-log-format", "audit-log-mode", "audit-webhook-mode")


def _check_audit(values: dict[str, Any]) -> None:
    if values["audit-log-format"] != "json":
        raise SettingsError("--audit-log-format: only json is supported")
    if values["audit-log-mode"] not in ("blocking", "blocking-strict", "batch"):
        raise SettingsError("--audit-log-mode: batch, blocking or blocking-strict")
    if values["audit-webhook-mode"] != "batch":
        raise SettingsError("--audit-webhook-mode: only batch is supported")
    if values["audit-webhook-batch-max-size"] < 1:
        raise SettingsError("--audit-webhook-batch-max-size must be positive")
    for name in ("audit-log-maxage", "audit-log-maxbackup", "audit-log-maxsize"):
        if values[name] < 0:
            raise SettingsError(f"--{name} {values[name]} can't be a negative number")
    if values["max-requests-inflight"] < 0 or values["max-mutating-requests-inflight"] < 0:
        raise SettingsError("--max-requests-inflight and --max-mutating-requests-inflight can not be negative value")


def _check_authorization(values: dict[str, Any]) -> None:
    older = [name for name in ("authorization-mode", "authorization-webhook-config-file") if values[name]]
    if values["authorization-config"] and older:
        told = "can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"
        raise SettingsError(f"--authorization-config {told}")
    values["authorization-mode"] = values["authorization-mode"] or ["AlwaysAllow"]


def _check_ranges(ranges: list[str]) -> None:
    if not 1 <= len(ranges) <= 2:
        raise SettingsError("--service-cluster-ip-range: one range, or one of each IP family")
    families = set()
    for text in ranges:
        try:
            families.add(ipaddress.ip_network(text).version)
        except ValueError as exc:
            raise SettingsError(f"--service-cluster-ip-range: {exc}") from exc
    if len(families) != len(ranges):
        raise SettingsError("--service-cluster-ip-range: two ranges must be of different IP families")


def _advertised(bind: str) -> str:
    """The address others reach this host under: what it would use for the default route."""
    if bind not in ("0.0.0.0", "::", ""):
        return bind
    family = socket.AF_INET6 if bind == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("2001:db8::1" if bind == "::" else "192.0.2.1", 9))  # sends nothing
        except OSError as exc:
            told = "--advertise-address: needed, because this host has no default route to tell its address by"
            raise SettingsError(told) from exc
        return str(sock.getsockname()[0])
