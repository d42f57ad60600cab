"""The manifests of static pods on a host: written, brought up to date, read.

A file that says what it should is not touched: the kubelet replaces a pod whenever its manifest changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import ryaml

from lab.bootstrap import staticpods
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.rooted import inside, write_changed
from lab.bootstrap.staticpods import CERTIFICATES, ETCD, MANIFESTS, StaticPod
from lab.errors import LabError
from machinery.api.meta import Object
from machinery.settings import read_yaml

_MEMBERSHIP = ("--initial-cluster=", "--initial-cluster-state=")


def path_of(root: Path, name: str) -> Path:
    """Where the manifest of a component lies."""
    return inside(root, f"{MANIFESTS}/{name}.yaml")


def write(config: ClusterConfiguration, root: Path) -> list[str]:
    """Bring the host's manifests to what the configuration and the certificates on it say; those that changed."""
    changed = []
    for pod in staticpods.of(config):
        manifest = pod.make(config, root)
        if pod is ETCD:
            manifest = _with_known_members(manifest, root)
        manifest["metadata"]["annotations"][CERTIFICATES] = _digest(root, pod.reads(config))
        if put(root, pod.name, manifest):
            changed.append(f"{MANIFESTS}/{pod.name}.yaml")
    return changed


def put(root: Path, name: str, manifest: Object) -> bool:
    """Write one manifest unless it says that already."""
    return write_changed(path_of(root, name), ryaml.dumps(manifest))


def read(root: Path, name: str) -> Object:
    """The manifest of a component. Raises LabError when there is none, SettingsError when it can't be read."""
    path = path_of(root, name)
    if not path.exists():
        raise LabError(f"{path}: there is no such static pod on this host")
    documents = read_yaml(path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise LabError(f"{path}: not the manifest of one pod")
    return documents[0]


def refresh_certificates(config: ClusterConfiguration, root: Path) -> list[str]:
    """After certificates changed: let the kubelet replace the pods that must read them; their names."""
    changed = []
    for pod in staticpods.of(config):
        if not path_of(root, pod.name).exists():
            continue
        manifest = read(root, pod.name)
        manifest["metadata"].setdefault("annotations", {})[CERTIFICATES] = _digest(root, pod.reads(config))
        if put(root, pod.name, manifest):
            changed.append(pod.name)
    return changed


def present(root: Path) -> list[StaticPod]:
    """The control plane's static pods that the host has."""
    return [pod for pod in staticpods.STATIC_PODS if path_of(root, pod.name).exists()]


def _with_known_members(manifest: Object, root: Path) -> Object:
    """A member that joined later than others knows them by its manifest: what that says of them stays."""
    if not path_of(root, ETCD.name).exists():
        return manifest
    container = manifest["spec"]["containers"][0]
    kept = {flag for flag in read(root, ETCD.name)["spec"]["containers"][0]["command"] if flag.startswith(_MEMBERSHIP)}
    if not kept:
        return manifest
    program, *flags = container["command"]
    container["command"] = [program, *sorted({flag for flag in flags if not flag.startswith(_MEMBERSHIP)} | kept)]
    return manifest


def _digest(root: Path, files: Iterable[str]) -> str:
    found = hashlib.sha256()
    for file in files:
        path = inside(root, file)
        if path.exists():
            found.update(f"{file}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]
