"""What certificates may be used for, in the certificates API's words.

Source: certificates.k8s.io/v1 KeyUsage.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

SERVER_USAGES = ("digital signature", "key encipherment", "server auth")
CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")
PEER_USAGES = ("digital signature", "key encipherment", "server auth", "client auth")

EXTENDED: dict[str, ObjectIdentifier] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}
BASIC: dict[str, str] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "data encipherment": "data_encipherment",
    "key agreement": "key_agreement",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """The usages of a certificate, in the certificates API's words."""
    found: list[str] = []
    try:
        basic = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        found += [name for name, field in BASIC.items() if name != "signing" and _allows(basic, field)]
    except x509.ExtensionNotFound:
        pass
    try:
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found += [name for name, oid in EXTENDED.items() if name != "s/mime" and oid in extended]
    except x509.ExtensionNotFound:
        pass
    return tuple(found)


def key_usage(usages: Iterable[str]) -> x509.KeyUsage:
    """The basic ones of these usages."""
    wanted = {BASIC[usage] for usage in usages if usage in BASIC}
    return x509.KeyUsage(**{field: field in wanted for field in set(BASIC.values())})


def _allows(usage: x509.KeyUsage, field: str) -> bool:
    if field in ("encipher_only", "decipher_only") and not usage.key_agreement:
        return False  # has no meaning then, and asking raises
    return bool(getattr(usage, field))
