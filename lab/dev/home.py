"""The data directory of `navarch dev`, which one process uses at a time.

DIR/lock            held while it runs
DIR/pki/…           authorities, certificates and keys, as kubeadm names them
DIR/tokens.csv      the components' tokens, new at each start
DIR/store.db        the objects (SQLite)
DIR/kubeconfig      an administrator's
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.bootstrap import certificates, kubeconfig
from lab.bootstrap.configuration import ClusterConfiguration, Etcd, ExternalEtcd
from lab.bootstrap.kubeconfig import Identity
from lab.errors import LabError
from machinery import pki
from machinery.client.config import ClientConfig
from machinery.errors import NavarchError

ADDRESS = "127.0.0.1"

SCHEDULER, CONTROLLERS, HOLLOW_NODES = "system:kube-scheduler", "system:kube-controller-manager", "hollow-nodes"
COMPONENTS = {SCHEDULER: (), CONTROLLERS: (), HOLLOW_NODES: ("system:masters",)}
"""The users that the components are, and their groups."""

_ALGORITHM = "ECDSA-P256"  # made in milliseconds


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one data directory."""

    directory: Path

    @property
    def pki(self) -> Path:
        """The folder of certificates and keys."""
        return self.directory / "pki"

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.directory / "store.db"

    @property
    def tokens(self) -> Path:
        """The components' tokens, as --token-auth-file has them."""
        return self.directory / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Have the directory (made 0700 if it is not there) for this process alone. Raises LabError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise LabError(f"--data-dir {self.directory}: {exc.strerror}") from exc
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
                told = f"in use by process {holder}, another `navarch dev`: stop that one, or give another --data-dir"
                raise LabError(f"{self.directory}: {told}") from None
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(lock)

    def ensure_certificates(self) -> None:
        """Make what is missing, and anew what is about to expire. Raises LabError naming the file."""
        config = configuration(0)
        try:
            certificates.ensure_authorities(config, self.pki)
            serving = self.pki / "apiserver.crt"
            if serving.exists() and pki.needs_renewal(pki.read_certificates(serving)[0]):
                certificates.renew(config, self.pki)
            certificates.ensure_certificates(config, self.pki)
        except OSError as exc:
            raise LabError(f"{exc.filename or self.pki}: {exc.strerror}") from exc
        except NavarchError as exc:
            raise LabError(f"{exc} (remove {self.pki} to have all certificates made anew)") from exc

    def write_tokens(self) -> None:
        """Give each component a token that holds until the next start (0600)."""
        lines = [f'{_token()},{user},{user},"{",".join(groups)}"\n' for user, groups in COMPONENTS.items()]
        pki.write_file(self.tokens, "".join(lines).encode())

    def client(self, port: int, user: str) -> ClientConfig:
        """A component's way to the API server, as `user`. Cheaper for both than a client certificate a connection."""
        lines = self.tokens.read_text().splitlines()
        token = next(line.split(",")[0] for line in lines if line.split(",")[1] == user)
        return ClientConfig(f"https://{ADDRESS}:{port}", ca_data=(self.pki / "ca.crt").read_bytes(), token=token)

    def write_kubeconfig(self, port: int) -> None:
        """Write the administrator's kubeconfig (0600)."""
        config = configuration(port)
        authority = certificates.authority(self.pki)
        admin = Identity(str(self.kubeconfig), "kubernetes-admin", ("system:masters",))
        pair = kubeconfig.client_pair(authority, admin, _ALGORITHM, pki.LIFETIME)
        made = kubeconfig.kubeconfig(config, admin, authority.certificate_pem, pair)
        kubeconfig.write(self.kubeconfig, made)


def _token() -> str:
    return secrets.token_urlsafe(32)


def configuration(port: int) -> ClusterConfiguration:
    """The cluster in kubeadm's words."""
    return ClusterConfiguration(
        cluster_name="navarch-dev",
        encryption_algorithm=_ALGORITHM,
        etcd=Etcd(external=ExternalEtcd(())),
        api_server_cert_sans=("localhost", "::1"),
        advertise_address=ADDRESS,
        bind_port=port,
    )
