"""Flags that the components beside the API server share, and what is built from them.

Source: component-base (leader election, logs), k8s.io/apiserver secure serving options.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from machinery import tlsflags
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import SettingsError
from machinery.leaderelection import LeaderElection, Timing
from machinery.serving import HealthServer, self_signed_tls, server_tls
from machinery.servingguard import ServingGuard
from machinery.settings import Flag, boolean, duration

LOG_FLAGS = (Flag("v", int, 0, "number for the log level verbosity"),)

CLIENT_FLAGS = (
    Flag("kubeconfig", str, "", "path to a kubeconfig file; empty: the in-cluster environment"),
    Flag("master", str, "", "address of the API server, overriding the kubeconfig's"),
)

SERVING_FLAGS = (
    Flag("bind-address", str, "0.0.0.0", "address to serve health and metrics on"),
    Flag("tls-cert-file", str, "", "serving certificate (PEM); empty: self-signed"),
    Flag("tls-private-key-file", str, "", "key of the serving certificate"),
    *tlsflags.FLAGS,
)

LEADER_FLAGS = (
    Flag("leader-elect", boolean, True, "run as one of several replicas of which one is active"),
    Flag("leader-elect-lease-duration", duration, 15.0, "how long standbys wait before they take over"),
    Flag("leader-elect-renew-deadline", duration, 10.0, "how long the leader tries to renew before it gives up"),
    Flag("leader-elect-retry-period", duration, 2.0, "time between attempts"),
    Flag("leader-elect-resource-name", str, "", "name of the lease"),
    Flag("leader-elect-resource-namespace", str, "kube-system", "namespace of the lease"),
    Flag("leader-elect-resource-lock", str, "leases", "kind of lock; only leases"),
)

# Upstream's flags that ask for nothing these components would do differently.
HARMLESS = (
    "allow-metric-labels",
    "allow-metric-labels-manifest",
    "authentication-skip-lookup",
    "authentication-token-webhook-cache-ttl",
    "authentication-tolerate-lookup-failure",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "cert-dir",
    "contention-profiling",
    "disable-http2-serving",
    "disabled-metrics",
    "emulated-version",
    "emulation-forward-compatible",
    "feature-gates",
    "http2-max-streams-per-connection",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "log-flush-frequency",
    "log-json-info-buffer-size",
    "log-json-split-stream",
    "log-text-info-buffer-size",
    "log-text-split-stream",
    "logging-format",
    "min-compatibility-version",
    "permit-address-sharing",
    "permit-port-sharing",
    "profiling",
    "requestheader-allowed-names",
    "requestheader-client-ca-file",
    "requestheader-extra-headers-prefix",
    "requestheader-group-headers",
    "requestheader-username-headers",
    "runtime-config-emulation-forward-compatible",
    "show-hidden-metrics-for-version",
    "vmodule",
)


def client_config(flags: dict[str, Any]) -> ClientConfig:
    """Where the API server is, from --kubeconfig and --master. Raises SettingsError."""
    config = ClientConfig.from_kubeconfig(flags["kubeconfig"]) if flags["kubeconfig"] else None
    if config is None:
        return ClientConfig(server=flags["master"]) if flags["master"] else ClientConfig.in_cluster()
    if not flags["master"]:
        return config
    return ClientConfig(**{**config.__dict__, "server": flags["master"]})


def serving_tls(flags: dict[str, Any]) -> ssl.SSLContext:
    """TLS for the health server, as the --tls-… flags say; self-signed where they name no certificate."""
    context = _serving_certificate(flags)
    tlsflags.restrict(context, flags["tls-min-version"], flags["tls-cipher-suites"])
    return context


def _serving_certificate(flags: dict[str, Any]) -> ssl.SSLContext:
    certificate, key = flags["tls-cert-file"], flags["tls-private-key-file"]
    if not certificate and not key:
        return self_signed_tls()
    if not certificate or not key:
        raise SettingsError("--tls-cert-file and --tls-private-key-file go together")
    try:
        return server_tls(Path(certificate).read_bytes(), Path(key).read_bytes())
    except OSError as exc:
        raise SettingsError(f"cannot read {exc.filename}: {exc.strerror}") from exc


@asynccontextmanager
async def guarded_server(flags: dict[str, Any], program: str, config: dict[str, Any]) -> AsyncIterator[HealthServer]:
    """The server of health, metrics and `config` (/configz), to those who may read them as the API server says.

    `flags`: SERVING_FLAGS, servingguard.FLAGS and secure-port.  Raises SettingsError.
    """
    guard = ServingGuard(flags, program)
    tls = guard.trust(serving_tls(flags))
    server = HealthServer(flags["bind-address"], flags["secure-port"], tls=tls, config=config)
    server.app.middlewares.append(guard.middleware)
    async with guard, server:
        yield server


def leader_election(client: Client, flags: dict[str, Any], default_name: str) -> LeaderElection:
    """The election that the --leader-elect-… flags describe. Raises SettingsError."""
    if flags["leader-elect-resource-lock"] != "leases":
        raise SettingsError("--leader-elect-resource-lock: only leases is supported")
    return LeaderElection(
        client,
        identity=socket.gethostname(),
        name=flags["leader-elect-resource-name"] or default_name,
        namespace=flags["leader-elect-resource-namespace"],
        timing=Timing(
            lease_seconds=flags["leader-elect-lease-duration"],
            renew_seconds=flags["leader-elect-renew-deadline"],
            retry_seconds=flags["leader-elect-retry-period"],
        ),
    )
