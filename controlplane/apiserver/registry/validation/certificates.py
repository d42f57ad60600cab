"""CertificateSigningRequests: on create, and when their status or approval changes.

Source: pkg/apis/certificates/validation/validation.go.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controlplane.apiserver.registry.objects import integer, items, sub, text, values
from controlplane.apiserver.registry.validation.parts import repeated, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show, too_long
from machinery.api.meta import Object

_CONDITIONS: Final = "status.conditions"
_CERTIFICATE: Final = "status.certificate"
_DECISIONS: Final = ("Approved", "Denied", "Failed")
_LEGACY_SIGNER: Final = "kubernetes.io/legacy-unknown"
_USAGES: Final = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_BLOCK = re.compile(rb"-----BEGIN ([^-]*)-----\s*?\n(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Change:
    """What an endpoint lets its writers do."""

    approval: bool = False
    certificate: bool = False


def request(csr: Object) -> list[FieldError]:
    """A new request."""
    return _request(csr, None)


def request_update(new: Object, old: Object) -> list[FieldError]:
    """A change that is neither of status nor of approval."""
    return _update(new, old, _Change())


def status_update(new: Object, old: Object) -> list[FieldError]:
    """A signer's report: the certificate is set once, decisions stay."""
    return _update(new, old, _Change(certificate=True))


def approval_update(new: Object, old: Object) -> list[FieldError]:
    """A decision: conditions are added."""
    return _update(new, old, _Change(approval=True))


def _request(csr: Object, old: Object | None) -> list[FieldError]:
    spec = sub(csr, "spec")
    errors: list[FieldError] = []
    if wrong := _not_a_request(text(spec, "request")):
        errors.append(invalid("spec.request", text(spec, "request"), wrong))
    usages = [u for u in values(spec, "usages") if isinstance(u, str)]
    if not usages:
        errors.append(required("spec.usages"))
    if old is None:
        errors += _usages(usages)
        signer = text(spec, "signerName")
        if signer == _LEGACY_SIGNER:
            told = "the legacy signerName is not allowed via this API version"
            errors.append(invalid("spec.signerName", signer, told))
        else:
            errors += signer_name("spec.signerName", signer)
    seconds = integer(spec, "expirationSeconds")
    if seconds is not None and seconds < 600:
        told = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, told))
    errors += _conditions(csr, old)
    certificate = text(csr, "status", "certificate")
    if (old is None or certificate != text(old, "status", "certificate")) and (wrong := _not_certificates(certificate)):
        errors.append(invalid(_CERTIFICATE, "<certificate data>", wrong))
    return errors


def _usages(usages: list[str]) -> list[FieldError]:
    errors = [
        unsupported(f"spec.usages[{i}]", usage, _USAGES) for i, usage in enumerate(usages) if usage not in _USAGES
    ]
    return errors + [repeated(f"spec.usages[{i}]", usage) for i, usage in enumerate(usages) if usage in usages[:i]]


def _decoded(encoded: str) -> bytes:
    return base64.b64decode(encoded)


def _not_a_request(encoded: str) -> str:
    found = _BLOCK.search(_decoded(encoded))
    if found is None or found[1] != b"CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        parsed = x509.load_der_x509_csr(base64.b64decode(found[2]))
        return "" if parsed.is_signature_valid else _wrong_signature(parsed)
    except ValueError:
        return "asn1: structure error: malformed certificate request"
    except (UnsupportedAlgorithm, TypeError):
        return "x509: cannot verify signature: algorithm unimplemented"


def _wrong_signature(parsed: x509.CertificateSigningRequest) -> str:
    """What Go's crypto/x509 says of a signature that is not by the request's key."""
    match parsed.public_key():
        case rsa.RSAPublicKey():
            return "crypto/rsa: verification error"
        case ec.EllipticCurvePublicKey():
            return "x509: ECDSA verification failure"
    return "x509: Ed25519 verification failure"


def _not_certificates(encoded: str) -> str:
    data = _decoded(encoded)
    if not data:
        return ""
    blocks = list(_BLOCK.finditer(data))
    for block in blocks:
        if block[1] != b"CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {show(block[1].decode('utf-8', 'replace'))}"
        if b":" in block[2]:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(base64.b64decode(block[2]))
        except ValueError:
            return "x509: malformed certificate"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def signer_name(field: str, name: str) -> list[FieldError]:
    """A signer: a domain and a path, `example.com/name`."""
    if not name:
        return [required(field)]
    domain, slash, path = name.partition("/")
    if not slash or "/" in path:
        told = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(field, name, told)]
    errors = [too_long(field, 253)] if len(domain) > 253 else []
    labels = domain.split(".")
    for label in labels:
        if wrong := names.dns1123_label(label):
            errors += [invalid(field, domain, f"validating label {show(label)}: {told}") for told in wrong]
            break
    if len(labels) < 2:
        errors.append(invalid(field, domain, "should be a domain with at least two segments separated by dots"))
    for label in path.split("."):
        if wrong := names.dns1123_subdomain(label):
            errors += [invalid(field, path, f"validating label {show(label)}: {told}") for told in wrong]
            break
    longest = 253 + 253 + 63 + 1 + 1
    return [*errors, too_long(field, longest)] if len(name) > longest else errors


def _kinds(csr: Object | None) -> list[str]:
    return [text(c, "type") for c in items(csr, "status", "conditions")]


def _conditions(csr: Object, old: Object | None) -> list[FieldError]:
    before = _kinds(old)
    torn = {"Approved", "Denied"} <= set(before)
    errors: list[FieldError] = []
    seen: list[str] = []
    for index, condition in enumerate(items(csr, "status", "conditions")):
        at = f"{_CONDITIONS}[{index}]"
        kind, status = text(condition, "type"), text(condition, "status")
        if not kind and "" not in before:
            errors.append(required(f"{at}.type"))
        allowed = ("True",) if kind in _DECISIONS else ("False", "True", "Unknown")
        if not status:
            errors.append(required(f"{at}.status"))
        elif status not in allowed:
            errors.append(unsupported(f"{at}.status", status, allowed))
        if {"Approved": "Denied", "Denied": "Approved"}.get(kind) in seen and not torn:
            errors.append(invalid(_CONDITIONS, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen and len(set(before)) == len(before):
            errors.append(repeated(f"{at}.type", kind))
        seen.append(kind)
    return errors


def _update(new: Object, old: Object, may: _Change) -> list[FieldError]:
    errors = _request(new, old)
    before, after = _kinds(old), _kinds(new)
    for kind in _DECISIONS:
        if after.count(kind) < before.count(kind):
            told = f"updates may not remove a condition of type {show(kind)}"
            errors.append(forbidden(_CONDITIONS, told))
    for kind in () if may.approval else ("Approved", "Denied"):
        if after.count(kind) > before.count(kind):
            errors.append(forbidden(_CONDITIONS, f"updates may not add a condition of type {show(kind)}"))
    if text(new, "status", "certificate") != text(old, "status", "certificate"):
        if not may.certificate:
            errors.append(forbidden(_CERTIFICATE, "updates may not set certificate content"))
        elif text(old, "status", "certificate"):
            errors.append(forbidden(_CERTIFICATE, "updates may not modify existing certificate content"))
    return errors
