"""Keys that sign and verify service-account tokens.

Source: k8s.io/kubernetes/pkg/serviceaccount/{jwt,openidmetadata}.go; RFC 7517, RFC 7518.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import load_pem_x509_certificate

from machinery.errors import SettingsError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CURVES = {"secp256r1": ("ES256", "P-256"), "secp384r1": ("ES384", "P-384"), "secp521r1": ("ES512", "P-521")}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with the id and the algorithm that tokens made with it carry."""

    key: PublicKey
    key_id: str
    algorithm: str

    def jwk(self) -> dict[str, str]:
        """The key as a JSON Web Key."""
        made = {"use": "sig", "kty": "RSA", "kid": self.key_id, "alg": self.algorithm}
        numbers = self.key.public_numbers()
        if isinstance(numbers, rsa.RSAPublicNumbers):
            return made | {"n": _number(numbers.n), "e": _number(numbers.e)}
        curve = numbers.curve
        size = (curve.key_size + 7) // 8
        point = {"x": _number(numbers.x, size), "y": _number(numbers.y, size)}
        return made | {"kty": "EC", "crv": _CURVES[curve.name][1]} | point


def verification_key(key: PublicKey) -> VerificationKey:
    """The key with its id: the hash of what it is. Raises ValueError for a curve that JWT does not know."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    if isinstance(key, rsa.RSAPublicKey):
        return VerificationKey(key, key_id, "RS256")
    if key.curve.name not in _CURVES:
        raise ValueError(f"unsupported curve {key.curve.name}: use P-256, P-384 or P-521")
    return VerificationKey(key, key_id, _CURVES[key.curve.name][0])


def load_verification_keys(paths: Sequence[str], flag: str) -> tuple[VerificationKey, ...]:
    """The keys of PEM files, which may hold public keys, private keys and certificates. Raises SettingsError."""
    keys: dict[str, VerificationKey] = {}
    for path in paths:
        found = False
        try:
            for block in _BLOCK.finditer(Path(path).read_bytes()):
                public = _public(block.group(1), block.group(0))
                if public is not None:
                    key = verification_key(public)
                    keys[key.key_id] = key
                    found = True
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise SettingsError(f"{flag}: can't read keys from {path}: {exc}") from exc
        if not found:
            raise SettingsError(f"{flag}: {path} does not contain any valid RSA or ECDSA public keys")
    return tuple(keys.values())


def load_signing_key(path: str, flag: str) -> PrivateKey:
    """The private key of a PEM file. Raises SettingsError."""
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"{flag}: can't read a private key from {path}: {exc}") from exc
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{flag}: {path} holds a key that is neither RSA nor ECDSA")
    return key


def _public(label: bytes, pem: bytes) -> PublicKey | None:
    if label == b"CERTIFICATE":
        key: object = load_pem_x509_certificate(pem).public_key()
    elif label.endswith(b"PRIVATE KEY"):
        private = serialization.load_pem_private_key(pem, password=None)
        key = private.public_key()
    elif label.endswith(b"PUBLIC KEY"):
        key = serialization.load_pem_public_key(pem)
    else:
        return None
    return key if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else None


def _number(number: int, size: int = 0) -> str:
    raw = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
