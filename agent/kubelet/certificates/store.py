"""Certificates on disk, as upstream keeps them: NAME-DATE.pem holds certificate and key, NAME-current.pem links to it.

Source: client-go util/certificate/certificate_store.go.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from machinery import pki
from machinery.errors import SettingsError
from machinery.pki import PKIError


@dataclass(frozen=True)
class Held:
    """A certificate with its key, as PEM, and the certificate read."""

    pem: bytes
    key_pem: bytes
    certificate: x509.Certificate


class CertificateStore:
    """The certificates of one purpose (`kubelet-client`, `kubelet-server`)."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory, self._name = Path(directory), name

    @property
    def current_path(self) -> Path:
        """The file that always holds the newest certificate and its key."""
        return self._directory / f"{self._name}-current.pem"

    def current(self) -> Held | None:
        """The newest certificate; None if there is none that can be read."""
        try:
            pem = self.current_path.read_bytes()
            certificate = pki.load_certificates(pem)[0]
            key = pki.key_pem(pki.load_key(pem[pem.index(b"-----BEGIN", pem.index(b"-----END CERTIFICATE")) :]))
        except (OSError, PKIError, ValueError, IndexError):
            return None
        return Held(pem, key, certificate)

    def write(self, certificate_pem: bytes, key_pem: bytes) -> Held:
        """Keep a new certificate, and let the link lead to it. Raises SettingsError."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
        path = self._directory / f"{self._name}-{stamp}.pem"
        temporary = self._directory / f".{self._name}-updated"
        try:
            pki.write_file(path, certificate_pem.rstrip(b"\n") + b"\n" + key_pem)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            temporary.symlink_to(path)
            os.replace(temporary, self.current_path)
        except OSError as error:
            raise SettingsError(f"cannot keep certificate {path}: {error.strerror}") from error
        held = self.current()
        if held is None:
            raise SettingsError(f"{path}: the certificate that was issued can't be read")
        return held
