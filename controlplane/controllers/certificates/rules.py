"""What a certificate request may ask of each of Kubernetes' own signers. Pure functions.

Source: k8s.io/kubernetes/pkg/apis/certificates/helpers.go, pkg/controller/certificates/signer;
https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509

from machinery import pki
from machinery.api.meta import Object, condition, parse_time
from machinery.pki import PKIError

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"

_SHORTEST = timedelta(minutes=10)
_ISSUED, _REFUSED, _PENDING = timedelta(hours=1), timedelta(hours=1), timedelta(hours=24)


def request_of(csr: Object) -> x509.CertificateSigningRequest:
    """The parsed request. Raises PKIError."""
    try:
        pem = base64.b64decode(csr["spec"]["request"], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PKIError(f"the request is not base64: {exc}") from exc
    return pki.load_request(pem)


def has_condition(csr: Object, kind: str) -> bool:
    """Whether the condition is there (Approved and Denied need not say True)."""
    return condition((csr.get("status") or {}).get("conditions"), kind) is not None


def is_approved(csr: Object) -> bool:
    """Approved, and not denied."""
    return has_condition(csr, "Approved") and not has_condition(csr, "Denied")


def _alternatives(request: x509.CertificateSigningRequest) -> set[str]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    kinds: dict[type, str] = {x509.DNSName: "DNS", x509.IPAddress: "IP", x509.RFC822Name: "Email"}
    return {kinds.get(type(name), "URI") for name in names}


def kubelet_client_error(request: x509.CertificateSigningRequest, usages: Iterable[str]) -> str:
    """Why this is no request for a kubelet's client certificate; "" if it is one."""
    if error := _node_subject_error(request):
        return error
    for kind in ("DNS", "Email", "IP", "URI"):
        if kind in _alternatives(request):
            return f"{kind} subjectAltNames are not allowed"
    return _usages_error(set(usages), "client auth")


def kubelet_serving_error(request: x509.CertificateSigningRequest, usages: Iterable[str]) -> str:
    """Why this is no request for a kubelet's serving certificate; "" if it is one."""
    found = _alternatives(request)
    if not found & {"DNS", "IP"}:
        return "DNS or IP subjectAltName is required"
    for kind in ("Email", "URI"):
        if kind in found:
            return f"{kind} subjectAltNames are not allowed"
    return _usages_error(set(usages), "server auth") or _node_subject_error(request)


def _node_subject_error(request: x509.CertificateSigningRequest) -> str:
    if pki.organizations(request) != ["system:nodes"]:
        return "subject organization is not system:nodes"
    if not pki.common_name(request).startswith("system:node:"):
        return "subject common name does not begin with system:node:"
    return ""


def _usages_error(usages: set[str], purpose: str) -> str:
    required = {"digital signature", purpose}
    if usages in (required, required | {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(sorted(required))}]"


def client_error(usages: Iterable[str]) -> str:
    """Why these usages are not those of a client certificate; "" if they are."""
    usages = list(usages)
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def signing_error(csr: Object, request: x509.CertificateSigningRequest) -> str:
    """Why the request's signer must refuse it; "" if it may sign."""
    usages = csr["spec"].get("usages") or []
    match csr["spec"].get("signerName"):
        case "kubernetes.io/kubelet-serving":
            return kubelet_serving_error(request, usages)
        case "kubernetes.io/kube-apiserver-client-kubelet":
            return kubelet_client_error(request, usages)
        case "kubernetes.io/kube-apiserver-client":
            return client_error(usages)
    return ""


def lifetime(csr: Object, longest: timedelta) -> timedelta:
    """How long the certificate is to be valid: as asked for, within ten minutes and `longest`."""
    asked = csr["spec"].get("expirationSeconds")
    if asked is None:
        return longest
    return min(max(timedelta(seconds=int(asked)), _SHORTEST), longest)


def is_over(csr: Object, now: datetime) -> bool:
    """Whether the request has served its time and can be cleared away."""
    status = csr.get("status") or {}
    limits = {"Denied": _REFUSED, "Failed": _REFUSED}
    if status.get("certificate"):
        limits["Approved"] = _ISSUED
        if _has_expired(status["certificate"], now):
            return True
    for item in status.get("conditions") or ():
        limit = limits.get(item.get("type", ""))
        since = item.get("lastUpdateTime") or item.get("lastTransitionTime")
        if limit is not None and since and now - parse_time(since) > limit:
            return True
    if status.get("conditions"):
        return False
    return now - parse_time(csr["metadata"]["creationTimestamp"]) > _PENDING


def _has_expired(certificate: str, now: datetime) -> bool:
    try:
        certificates = pki.load_certificates(base64.b64decode(certificate, validate=True))
    except (PKIError, binascii.Error, ValueError):
        return False
    return bool(certificates) and certificates[0].not_valid_after_utc < now
