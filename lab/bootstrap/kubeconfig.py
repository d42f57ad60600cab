"""kubeconfig files: written with the certificates inside, as kubeadm does; and merged into a person's own.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/; kubeadm, phase
kubeconfig.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ryaml
from cryptography.x509 import Certificate

from lab.bootstrap.certificates import ADMINISTRATORS
from lab.bootstrap.configuration import ClusterConfiguration
from machinery import pki
from machinery.errors import SettingsError
from machinery.pki import KeyPair
from machinery.settings import read_yaml

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user that a kubeconfig speaks for."""

    file: str
    """Absolute path on the host."""
    user: str
    """Common name of the certificate: the user's name."""
    groups: tuple[str, ...] = ()
    local: bool = False
    """Whether it talks to its own host's API server rather than to the cluster's endpoint."""


ADMIN = Identity("/etc/kubernetes/admin.conf", "kubernetes-admin", (ADMINISTRATORS,))
SUPER_ADMIN = Identity("/etc/kubernetes/super-admin.conf", "kubernetes-super-admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("/etc/kubernetes/controller-manager.conf", "system:kube-controller-manager", local=True)
SCHEDULER = Identity("/etc/kubernetes/scheduler.conf", "system:kube-scheduler", local=True)
CONTROL_PLANE = (ADMIN, CONTROLLER_MANAGER, SCHEDULER)
"""Those of every control-plane host; the first has SUPER_ADMIN too."""


def kubelet(node: str) -> Identity:
    """The kubelet of a node."""
    return Identity("/etc/kubernetes/kubelet.conf", f"system:node:{node}", ("system:nodes",))


def client_pair(authority: KeyPair, identity: Identity, algorithm: str, lifetime: timedelta) -> KeyPair:
    """A client certificate for the identity."""
    return pki.issue(
        authority,
        identity.user,
        usages=pki.CLIENT_USAGES,
        organizations=identity.groups,
        algorithm=algorithm,
        lifetime=lifetime,
    )


def kubeconfig(config: ClusterConfiguration, identity: Identity, authority: bytes, pair: KeyPair) -> Config:
    """The kubeconfig of an identity; `authority` is the cluster CA in PEM."""
    server = config.local_endpoint if identity.local else config.endpoint
    user, cluster = identity.user, config.cluster_name
    context = f"{user}@{cluster}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"certificate-authority-data": _b64(authority), "server": f"https://{server}"}}
        ],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
        "users": [{"name": user, "user": credentials(pair)}],
    }


def credentials(pair: KeyPair) -> dict[str, str]:
    """The fields of a kubeconfig's user for a client certificate."""
    return {"client-certificate-data": _b64(pair.certificate_pem), "client-key-data": _b64(pair.key_pem)}


def write(path: Path, config: Config) -> None:
    """Write a kubeconfig, readable by its owner alone."""
    pki.write_file(path, ryaml.dumps(config).encode())


def read(path: Path) -> Config:
    """A kubeconfig; an empty one if there is no such file. Raises SettingsError."""
    if not path.exists() or not path.read_text().strip():
        return {"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}
    documents = read_yaml(path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise SettingsError(f"{path}: not a kubeconfig")
    return documents[0]


def certificate_in(path: Path) -> Certificate:
    """The client certificate inside a kubeconfig. Raises SettingsError or PKIError."""
    config = read(path)
    try:
        data = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    except (LookupError, TypeError, ValueError) as exc:
        raise SettingsError(f"{path}: holds no client certificate") from exc
    return pki.load_certificates(data)[0]


def merged(own: Config, added: Config, name: str) -> Config:
    """`own` with the current context of `added` put in under `name` and made the current one."""
    entries = {section: list(own.get(section) or []) for section in ("clusters", "contexts", "users")}
    cluster, user = added["clusters"][0]["cluster"], added["users"][0]["user"]
    new = {
        "clusters": {"name": name, "cluster": cluster},
        "contexts": {"name": name, "context": {"cluster": name, "user": name}},
        "users": {"name": name, "user": user},
    }
    for section, entry in new.items():
        entries[section] = [each for each in entries[section] if each.get("name") != name] + [entry]
    return {"apiVersion": "v1", "kind": "Config", **own, **entries, "current-context": name}


def without(own: Config, name: str) -> Config:
    """`own` without what `merged` put in under `name`; another context becomes current only if a person chooses it."""
    result = dict(own)
    for section in ("clusters", "contexts", "users"):
        result[section] = [each for each in own.get(section) or [] if each.get("name") != name]
    if own.get("current-context") == name:
        result["current-context"] = ""
    return result


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
