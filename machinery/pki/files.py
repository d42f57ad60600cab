"""Keys and certificates in files: private keys with mode 0600, each file written in one step."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from machinery.pki.certificates import KeyPair, load_certificates
from machinery.pki.keys import PKIError, PrivateKey, load_key, public_key_pem


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` in one step with `mode`, making missing directories (0700 for private data)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode & 0o077 == 0 else 0o755)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_pair(pair: KeyPair, certificate_path: Path, key_path: Path) -> None:
    """Write key (0600) and certificate (0644); the key first, so that a certificate is never without its key."""
    write_file(key_path, pair.key_pem)
    write_file(certificate_path, pair.certificate_pem, mode=0o644)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file. Raises PKIError naming the file."""
    try:
        return load_certificates(path.read_bytes())
    except (OSError, PKIError) as exc:
        raise PKIError(f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc


def read_key(path: Path) -> PrivateKey:
    """The private key in a file. Raises PKIError naming the file."""
    try:
        return load_key(path.read_bytes())
    except (OSError, PKIError) as exc:
        raise PKIError(f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc


def read_pair(certificate_path: Path, key_path: Path) -> KeyPair:
    """A certificate and its key from files; checks that they belong together. Raises PKIError naming the files."""
    certificate, key = read_certificates(certificate_path)[0], read_key(key_path)
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise PKIError(f"{certificate_path}: unsupported kind of public key: {type(public).__name__}")
    if public_key_pem(public) != public_key_pem(key.public_key()):
        raise PKIError(f"{certificate_path} and {key_path} do not belong together")
    return KeyPair(certificate, key)
