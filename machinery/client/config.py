"""How to reach an API server and as whom: kubeconfig files and the in-cluster environment.

Source: client-go tools/clientcmd; https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machinery.errors import SettingsError
from machinery.settings import read_yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class ClientConfig:
    """Everything needed to talk to one API server. PEM texts are bytes; a token file is read again when it changes."""

    server: str
    ca_data: bytes | None = None
    client_certificate: bytes | None = None
    client_key: bytes | None = None
    token: str = ""
    token_file: str = ""
    tls_server_name: str = ""
    insecure: bool = False
    namespace: str = "default"
    impersonate: str = ""

    @classmethod
    def from_kubeconfig(cls, path: str | Path, context: str = "") -> ClientConfig:
        """The current (or named) context of a kubeconfig file. Raises SettingsError naming file and entry."""
        documents = read_yaml(path)
        if len(documents) != 1 or not isinstance(documents[0], dict):
            raise SettingsError(f"{path}: not a kubeconfig")
        config = documents[0]
        name = context or config.get("current-context") or ""
        chosen = _named(config, "contexts", name, path).get("context") or {}
        cluster = _named(config, "clusters", chosen.get("cluster", ""), path).get("cluster") or {}
        user = _named(config, "users", chosen["user"], path).get("user") or {} if chosen.get("user") else {}
        for unsupported in ("exec", "auth-provider"):
            if user.get(unsupported):
                raise SettingsError(f"{path}: user {chosen['user']!r}: {unsupported} is not supported")
        if not cluster.get("server"):
            raise SettingsError(f"{path}: cluster {chosen.get('cluster')!r} has no server")
        base = Path(path).parent
        return cls(
            server=cluster["server"].rstrip("/"),
            ca_data=_material(cluster, "certificate-authority", base),
            client_certificate=_material(user, "client-certificate", base),
            client_key=_material(user, "client-key", base),
            token=user.get("token", ""),
            token_file=str(base / user["tokenFile"]) if user.get("tokenFile") else "",
            tls_server_name=cluster.get("tls-server-name", ""),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            namespace=chosen.get("namespace") or "default",
            impersonate=user.get("as", ""),
        )

    @classmethod
    def in_cluster(cls) -> ClientConfig:
        """From inside a pod: its ServiceAccount's token and the Kubernetes service. Raises SettingsError."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise SettingsError("KUBERNETES_SERVICE_HOST and _PORT are not set: not running inside a cluster")
        address = f"[{host}]" if ":" in host else host
        return cls(
            server=f"https://{address}:{port}",
            ca_data=_read(_SERVICE_ACCOUNT / "ca.crt"),
            token_file=str(_SERVICE_ACCOUNT / "token"),
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS as configured; None for plain http. Raises SettingsError for certificates that can't be used."""
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca_data.decode() if self.ca_data else None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.client_certificate and self.client_key:
                _load_client_certificate(context, self.client_certificate + b"\n" + self.client_key)
        except (ssl.SSLError, ValueError, OSError) as exc:
            raise SettingsError(f"cannot use the TLS material for {self.server}: {exc}") from exc
        return context


def _load_client_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    """Python's ssl reads key material from a path alone; this one is 0600 and gone at once."""
    with tempfile.NamedTemporaryFile(prefix="navarch-client-", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def _named(config: dict[str, Any], section: str, name: str, path: str | Path) -> dict[str, Any]:
    for entry in config.get(section) or ():
        if entry.get("name") == name:
            return dict(entry)
    raise SettingsError(f"{path}: {section} has no entry named {name!r}")


def _material(entry: dict[str, Any], field: str, base: Path) -> bytes | None:
    if data := entry.get(f"{field}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise SettingsError(f"{field}-data is not base64: {exc}") from exc
    return _read(base / entry[field]) if entry.get(field) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from exc
