"""The certificates of a cluster: kubeadm's files, names, subjects and usages.

`plan` says which a host has; `ensure_…` makes those that are missing and never replaces one that is there; `renew`
makes all but the authorities anew.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/; kubeadm, phases/certs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from lab.bootstrap.configuration import ClusterConfiguration, split_host_port
from machinery import pki
from machinery.pki import CLIENT_USAGES, PEER_USAGES, SERVER_USAGES, KeyPair, PKIError

AUTHORITIES = {"ca": "kubernetes", "etcd/ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"}
"""File stem of each authority, and its common name."""

SHARED_FILES = (
    "ca.crt",
    "ca.key",
    "sa.key",
    "sa.pub",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
)
"""What every control-plane host has alike: what a joining one must be given. Source: kubeadm, manual distribution."""

ADMINISTRATORS = "kubeadm:cluster-admins"
"""The group of admin.conf; a ClusterRoleBinding of this name makes it powerful, and can be taken away."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate to have: file stem, authority, subject, usages, names."""

    stem: str
    authority: str
    common_name: str
    usages: tuple[str, ...]
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def plan(config: ClusterConfiguration) -> list[Certificate]:
    """The certificates a control-plane host has, beside the authorities and the kubeconfigs' own."""
    name, address, networking = config.node_name, config.advertise_address, config.networking
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    endpoint = split_host_port(config.control_plane_endpoint)[0] if config.control_plane_endpoint else ""
    api_names = _distinct(
        name,
        *services,
        f"kubernetes.default.svc.{networking.dns_domain}",
        networking.api_service_address,
        address,
        endpoint,
        *config.api_server_cert_sans,
    )
    certificates = [
        Certificate("apiserver", "ca", "kube-apiserver", SERVER_USAGES, names=api_names),
        Certificate(
            "apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", CLIENT_USAGES, (ADMINISTRATORS,)
        ),
        Certificate("front-proxy-client", "front-proxy-ca", "front-proxy-client", CLIENT_USAGES),
    ]
    if config.etcd.external is not None:
        return certificates
    own = (name, "localhost", address, "127.0.0.1", "::1")
    server, peer = _distinct(*own, *config.etcd.server_cert_sans), _distinct(*own, *config.etcd.peer_cert_sans)
    return [
        *certificates,
        Certificate("etcd/server", "etcd/ca", name, PEER_USAGES, names=server),
        Certificate("etcd/peer", "etcd/ca", name, PEER_USAGES, names=peer),
        Certificate("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", CLIENT_USAGES),
        Certificate("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", CLIENT_USAGES),
    ]


def ensure_authorities(config: ClusterConfiguration, folder: Path) -> list[str]:
    """Make the authorities and the service-account key where missing; returns the stems of what was made."""
    made = []
    for stem, common_name in AUTHORITIES.items():
        if stem == "etcd/ca" and config.etcd.external is not None:
            continue
        if not _present(folder, stem):
            authority = pki.make_authority(
                common_name, algorithm=config.encryption_algorithm, lifetime=config.ca_lifetime
            )
            pki.write_pair(authority, *_files(folder, stem))
            made.append(stem)
    if not (folder / "sa.key").exists():
        key = pki.new_key(config.encryption_algorithm)
        pki.write_file(folder / "sa.key", pki.key_pem(key))
        pki.write_file(folder / "sa.pub", pki.public_key_pem(key.public_key()), mode=0o600)
        made.append("sa")
    return made


def ensure_certificates(config: ClusterConfiguration, folder: Path) -> list[str]:
    """Make this host's certificates where missing, and check those that are there; returns the stems of the new.

    Raises PKIError when an authority is missing, or a certificate is of another authority, expired, or lacks a name.
    """
    made = []
    for certificate in plan(config):
        if _present(folder, certificate.stem):
            _check(certificate, folder)
        else:
            _issue(certificate, config, folder)
            made.append(certificate.stem)
    return made


def renew(config: ClusterConfiguration, folder: Path, chosen: Callable[[Path], bool] = lambda path: True) -> list[str]:
    """Make the host's certificates anew (the `chosen` ones), with subjects and names as they are; returns the stems.

    Authorities stay as they are. Raises PKIError, for an authority whose key is not on this host, say.
    """
    renewed = []
    for certificate in plan(config):
        path, key_path = _files(folder, certificate.stem)
        if path.exists() and chosen(path):
            pair = pki.reissue(
                authority(folder, certificate.authority),
                pki.read_certificates(path)[0],
                algorithm=config.encryption_algorithm,
                lifetime=config.certificate_lifetime,
            )
            pki.write_pair(pair, path, key_path)
            renewed.append(certificate.stem)
    return renewed


def copy_shared(source: Path, folder: Path) -> None:
    """Take what control-plane hosts share from another's certificates folder. Raises PKIError for what is missing."""
    missing = [name for name in SHARED_FILES if not (source / name).exists()]
    if missing:
        raise PKIError(f"{source}: missing {', '.join(missing)}: copy them from a control-plane host")
    for name in SHARED_FILES:
        if (source / name).resolve() != (folder / name).resolve():
            pki.write_file(folder / name, (source / name).read_bytes(), mode=0o644 if name.endswith(".crt") else 0o600)


def authority(folder: Path, stem: str = "ca") -> KeyPair:
    """An authority with its key. Raises PKIError naming the files."""
    return pki.read_pair(*_files(folder, stem))


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate file expires."""

    file: Path
    expires: datetime
    remaining: timedelta
    authority: bool


def expiry(file: Path, certificate: x509.Certificate, now: datetime | None = None) -> Expiry:
    """When the certificate of this file expires."""
    moment = now or datetime.now(UTC)
    return Expiry(file, certificate.not_valid_after_utc, pki.remaining(certificate, moment), is_authority(file))


def is_authority(file: Path) -> bool:
    """Whether the file is that of an authority's certificate."""
    return file.name in ("ca.crt", "front-proxy-ca.crt")


def _issue(certificate: Certificate, config: ClusterConfiguration, folder: Path) -> None:
    pair = pki.issue(
        authority(folder, certificate.authority),
        certificate.common_name,
        usages=certificate.usages,
        organizations=certificate.organizations,
        names=certificate.names,
        algorithm=config.encryption_algorithm,
        lifetime=config.certificate_lifetime,
    )
    pki.write_pair(pair, *_files(folder, certificate.stem))


def _check(certificate: Certificate, folder: Path) -> None:
    path, key_path = _files(folder, certificate.stem)
    pair = pki.read_pair(path, key_path)
    try:
        pki.verify_issued_by(pair.certificate, authority(folder, certificate.authority).certificate)
    except PKIError as exc:
        raise PKIError(f"{path}: {exc}") from exc
    if pki.remaining(pair.certificate) <= timedelta(0):
        raise PKIError(f"{path}: expired on {pair.certificate.not_valid_after_utc:%Y-%m-%d}: run `navarch certs renew`")
    lacking = set(certificate.names) - set(pki.alternative_names(pair.certificate))
    if lacking:
        raise PKIError(f"{path}: is not valid for {', '.join(sorted(lacking))}: run `navarch certs renew`")


def _present(folder: Path, stem: str) -> bool:
    certificate, key = _files(folder, stem)
    return certificate.exists() and key.exists()


def _files(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}.crt", folder / f"{stem}.key"


def _distinct(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))


def certificate_files(folder: Path) -> Sequence[Path]:
    """Every certificate file below the folder, sorted."""
    return sorted(folder.rglob("*.crt"))
