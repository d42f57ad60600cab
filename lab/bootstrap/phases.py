"""What `navarch init` and `navarch join` do to a host's files.

Every function takes `root`, the folder under which the host's absolute paths lie: `/` on a machine of its own, the
host's private folder in the lab.  All can be run again: what is there stays.

Source: kubeadm init and kubeadm join, phases certs, kubeconfig, etcd, control-plane, kubelet-start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import ryaml

from lab.bootstrap import certificates, components, kubeconfig, nodefiles, staticfiles
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.kubeconfig import Identity
from lab.bootstrap.rooted import inside, write_changed
from lab.bootstrap.staticpods import MANIFESTS
from lab.errors import LabError
from machinery import pki


@dataclass(slots=True)
class Written:
    """What a run made, in words for the user."""

    made: list[str] = field(default_factory=list)


def initialise(config: ClusterConfiguration, root: Path) -> Written:
    """Make the first control-plane host's files: authorities, certificates, kubeconfigs, node files, static pods."""
    config, written = replace(config, control_plane=True), Written()
    folder = inside(root, config.certificates_dir)
    written.made += [f"{config.certificates_dir}/{stem}" for stem in certificates.ensure_authorities(config, folder)]
    _control_plane(config, root, written, (kubeconfig.SUPER_ADMIN, *kubeconfig.CONTROL_PLANE))
    return written


def join_control_plane(config: ClusterConfiguration, root: Path, shared: Path | None = None) -> Written:
    """Make another control-plane host's files; `shared` is a copy of the first host's certificates folder.

    Without `shared`, the authorities must be in place already. Raises PKIError naming what is missing.
    """
    config, written = replace(config, control_plane=True), Written()
    folder = inside(root, config.certificates_dir)
    certificates.copy_shared(shared or folder, folder)
    _control_plane(config, root, written, kubeconfig.CONTROL_PLANE)
    return written


def join_worker(config: ClusterConfiguration, root: Path, shared: Path) -> Written:
    """Make a worker's files; `shared` is a folder with the cluster's authority and its key, which stays there."""
    written = Written()
    authority = certificates.authority(shared)
    folder = inside(root, config.certificates_dir)
    pki.write_file(folder / "ca.crt", authority.certificate_pem, mode=0o644)
    _node(config, root, authority, written)
    return written


def _control_plane(
    config: ClusterConfiguration, root: Path, written: Written, identities: tuple[Identity, ...]
) -> None:
    if not config.advertise_address:
        raise LabError("localAPIEndpoint.advertiseAddress is not set: say at which address this host is reached")
    folder = inside(root, config.certificates_dir)
    written.made += [f"{config.certificates_dir}/{stem}" for stem in certificates.ensure_certificates(config, folder)]
    authority = certificates.authority(folder)
    for identity in identities:
        _kubeconfig(config, root, authority, identity, written)
    data = inside(root, config.etcd.data_dir)
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    _node(config, root, authority, written)
    written.made += staticfiles.write(config, root)


def _node(config: ClusterConfiguration, root: Path, authority: pki.KeyPair, written: Written) -> None:
    _kubeconfig(config, root, authority, kubeconfig.kubelet(config.node_name), written)
    for path, text in (
        (components.KUBELET_CONFIG, ryaml.dumps(nodefiles.kubelet_configuration(config))),
        (components.KUBELET_FLAGS_FILE, nodefiles.kubelet_flags_file(config)),
    ):
        if write_changed(inside(root, path), text, mode=0o644):
            written.made.append(path)
    inside(root, MANIFESTS).mkdir(parents=True, exist_ok=True, mode=0o700)


def _kubeconfig(
    config: ClusterConfiguration, root: Path, authority: pki.KeyPair, identity: Identity, written: Written
) -> None:
    path = inside(root, identity.file)
    if path.exists():
        return
    pair = kubeconfig.client_pair(authority, identity, config.encryption_algorithm, config.certificate_lifetime)
    kubeconfig.write(path, kubeconfig.kubeconfig(config, identity, authority.certificate_pem, pair))
    written.made.append(identity.file)


def kubeconfigs(root: Path) -> list[Path]:
    """The kubeconfig files that a host has."""
    files = [each.file for each in (kubeconfig.SUPER_ADMIN, *kubeconfig.CONTROL_PLANE, kubeconfig.kubelet(""))]
    return [path for path in (inside(root, file) for file in files) if path.exists()]


def renew_kubeconfigs(config: ClusterConfiguration, root: Path) -> list[str]:
    """Give every kubeconfig that the host has a new certificate, all else left as it is; returns their paths."""
    authority = certificates.authority(inside(root, config.certificates_dir))
    renewed = []
    for path in kubeconfigs(root):
        content, present = kubeconfig.read(path), kubeconfig.certificate_in(path)
        identity = Identity(str(path), pki.common_name(present), tuple(pki.organizations(present)))
        pair = kubeconfig.client_pair(authority, identity, config.encryption_algorithm, config.certificate_lifetime)
        content["users"][0]["user"] |= kubeconfig.credentials(pair)
        kubeconfig.write(path, content)
        renewed.append(str(path))
    return renewed
