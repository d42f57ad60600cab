"""Keys, certificate authorities, certificates and signing requests.

A `KeyPair` is a certificate with its private key; an authority is a KeyPair whose certificate may sign others.  Usages
are spelled as in the certificates API ("server auth", "client auth", "digital signature", …).  Private keys are written
with mode 0600, in one step, so that no reader ever sees half a file.

Source: RFC 5280; certificates.k8s.io/v1 KeyUsage; kubeadm's pkiutil.
"""

from __future__ import annotations

from machinery.pki.certificates import (
    AUTHORITY_LIFETIME,
    BACKDATE,
    LIFETIME,
    KeyPair,
    alternative_names,
    certificate_pem,
    common_name,
    issue,
    load_certificates,
    make_authority,
    needs_renewal,
    organizations,
    reissue,
    remaining,
    self_signed_server,
    verify_issued_by,
)
from machinery.pki.files import read_certificates, read_key, read_pair, write_file, write_pair
from machinery.pki.keys import ALGORITHMS, PKIError, PrivateKey, PublicKey, key_pem, load_key, new_key, public_key_pem
from machinery.pki.requests import load_request, make_request, sign_request
from machinery.pki.usages import CLIENT_USAGES, PEER_USAGES, SERVER_USAGES, usages

__all__ = [
    "ALGORITHMS",
    "AUTHORITY_LIFETIME",
    "BACKDATE",
    "CLIENT_USAGES",
    "LIFETIME",
    "PEER_USAGES",
    "SERVER_USAGES",
    "KeyPair",
    "PKIError",
    "PrivateKey",
    "PublicKey",
    "alternative_names",
    "certificate_pem",
    "common_name",
    "issue",
    "key_pem",
    "load_certificates",
    "load_key",
    "load_request",
    "make_authority",
    "make_request",
    "needs_renewal",
    "new_key",
    "organizations",
    "public_key_pem",
    "read_certificates",
    "read_key",
    "read_pair",
    "reissue",
    "remaining",
    "self_signed_server",
    "sign_request",
    "usages",
    "verify_issued_by",
    "write_file",
    "write_pair",
]
