"""Private and public keys."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from machinery.errors import NavarchError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

ALGORITHMS = ("RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384")
"""Names of key algorithms, as in kubeadm's ClusterConfiguration.encryptionAlgorithm."""


class PKIError(NavarchError):
    """A key, certificate or request is missing, unreadable, or does not fit."""


def new_key(algorithm: str = "RSA-2048") -> PrivateKey:
    """A new private key; `algorithm` is one of ALGORITHMS. Raises PKIError."""
    match algorithm:
        case "RSA-2048" | "RSA-3072" | "RSA-4096":
            return rsa.generate_private_key(public_exponent=65537, key_size=int(algorithm[4:]))
        case "ECDSA-P256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ECDSA-P384":
            return ec.generate_private_key(ec.SECP384R1())
    raise PKIError(f"unknown key algorithm {algorithm!r}: choose one of {', '.join(ALGORITHMS)}")


def key_pem(key: PrivateKey) -> bytes:
    """The private key in the PEM form Go's tools write: PKCS#1 for RSA, SEC 1 for elliptic curves, else PKCS#8."""
    traditional = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_key_pem(key: PublicKey) -> bytes:
    """The public key in PEM (PKIX), the form of sa.pub."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_key(pem: bytes) -> PrivateKey:
    """The private key in `pem`. Raises PKIError."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise PKIError(f"not a private key in PEM: {exc}") from exc
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise PKIError(f"unsupported kind of private key: {type(key).__name__}")
    return key


def digest(key: PrivateKey) -> hashes.SHA256 | None:
    """What signatures of this key are over."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
