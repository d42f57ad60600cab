"""Ciphers, with the bytes that upstream's servers read and write.

`context` is the key in storage that a value belongs to: a value that is moved to another key does not open (AES-GCM).

Source: k8s.io/apiserver/pkg/storage/value/encrypt/{aes,secretbox,identity}.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM as _AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

ENCRYPTED = b"k8s:enc:"
_BLOCK, _GCM_NONCE, _BOX_NONCE = 16, 12, 24


class Undecipherable(ValueError):
    """A stored value can't be read with the keys there are."""


class Cipher(Protocol):
    """One key of one algorithm."""

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Encrypt."""
        ...

    def open(self, data: bytes, context: bytes) -> bytes:
        """Decrypt. Raises Undecipherable."""
        ...


@dataclass(frozen=True, slots=True)
class AESCBC:
    """A random IV, then the padded data; not authenticated."""

    key: bytes

    def seal(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        iv = os.urandom(_BLOCK)
        padder = PKCS7(_BLOCK * 8).padder()
        encryptor = _Cipher(AES(self.key), CBC(iv)).encryptor()
        return iv + encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()

    def open(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        if len(data) < 2 * _BLOCK or len(data) % _BLOCK:
            raise Undecipherable("the stored data was shorter than the required size")
        decryptor = _Cipher(AES(self.key), CBC(data[:_BLOCK])).decryptor()
        padded = decryptor.update(data[_BLOCK:]) + decryptor.finalize()
        unpadder = PKCS7(_BLOCK * 8).unpadder()
        try:
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as exc:
            raise Undecipherable("invalid padding on input") from exc


@dataclass(frozen=True, slots=True)
class AESGCM:
    """A random nonce, then the data and its tag; the context is authenticated with it."""

    key: bytes

    def seal(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        nonce = os.urandom(_GCM_NONCE)
        return nonce + _AESGCM(self.key).encrypt(nonce, data, context)

    def open(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        if len(data) < _GCM_NONCE + _BLOCK:
            raise Undecipherable("the stored data was shorter than the required size")
        try:
            return _AESGCM(self.key).decrypt(data[:_GCM_NONCE], data[_GCM_NONCE:], context)
        except InvalidTag as exc:
            raise Undecipherable("cipher: message authentication failed") from exc


@dataclass(frozen=True, slots=True)
class Secretbox:
    """A random nonce, then XSalsa20 and Poly1305."""

    key: bytes

    def seal(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        nonce = os.urandom(_BOX_NONCE)
        return nonce + bytes(crypto_secretbox(data, nonce, self.key))

    def open(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        if len(data) < _BOX_NONCE:
            raise Undecipherable("the stored data was shorter than the required size")
        try:
            return bytes(crypto_secretbox_open(data[_BOX_NONCE:], data[:_BOX_NONCE], self.key))
        except CryptoError as exc:
            raise Undecipherable("output array was not large enough for encryption") from exc


@dataclass(frozen=True, slots=True)
class Identity:
    """No encryption."""

    def seal(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        return data

    def open(self, data: bytes, context: bytes) -> bytes:
        """See `Cipher`."""
        if data.startswith(ENCRYPTED):
            raise Undecipherable("identity transformer tried to read encrypted data")
        return data


@dataclass(frozen=True, slots=True)
class Keyed:
    """A cipher and what values begin with that it made: `k8s:enc:aescbc:v1:NAME:`; empty for Identity."""

    prefix: bytes
    cipher: Cipher


@dataclass(frozen=True, slots=True)
class Transformer:
    """Writes with the first of several ciphers, reads with any."""

    ciphers: Sequence[Keyed]

    def seal(self, data: bytes, context: bytes) -> bytes:
        """A value as it is to be stored."""
        first = self.ciphers[0]
        return first.prefix + first.cipher.seal(data, context)

    def open(self, stored: bytes, context: bytes) -> tuple[bytes, bool]:
        """(the value, whether it would be stored in another way now). Raises Undecipherable."""
        failed: list[str] = []
        for index, keyed in enumerate(self.ciphers):
            if not stored.startswith(keyed.prefix):
                continue
            try:
                return keyed.cipher.open(stored[len(keyed.prefix) :], context), index > 0
            except Undecipherable as exc:
                if keyed.prefix:  # identity may stand before what is to be read only
                    failed.append(str(exc))
        raise Undecipherable("; ".join(dict.fromkeys(failed)) or "no matching prefix found")
