"""Plugins and rules for certificate signing requests: who may approve, who may sign, what may not be asked for.

Source: k8s.io/kubernetes/plugin/pkg/admission/certificates, pkg/apis/certificates/validation,
pkg/registry/certificates/certificates/strategy.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import CERTIFICATESIGNINGREQUESTS
from machinery.api.fielderror import show
from machinery.api.meta import Object

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING_SIGNER = "kubernetes.io/kubelet-serving"
_MASTERS = "system:masters"


async def may(authorize: Authorize, user: User, verb: str, signer: str) -> bool:
    """Whether a user may `approve`, `sign` or `attest` for a signer, by its name or by its domain's wildcard."""
    for name in (signer, signer.split("/", 1)[0] + "/*"):
        asked = RequestInfo(
            verb=verb,
            path="",
            is_resource=True,
            group="certificates.k8s.io",
            version="*",
            resource="signers",
            name=name,
        )
        if (await authorize(user, asked))[0]:
            return True
    return False


class CertificateApproval(BasePlugin):
    """Who approves a request must be allowed to for its signer."""

    name = "CertificateApproval"

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """Writes of the approval."""
        return (
            operation.verb == UPDATE
            and operation.resource == CERTIFICATESIGNINGREQUESTS
            and operation.subresource == "approval"
        )

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        # The old object: a signer smuggled into this very write must not count.
        signer = _signer(operation.old)
        if not await may(self._authorize, operation.user, "approve", signer):
            raise refuse(operation, f"user not permitted to approve requests with signerName {show(signer)}")


class CertificateSigning(BasePlugin):
    """Who writes a certificate must be allowed to sign for the signer."""

    name = "CertificateSigning"

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """Writes of the status."""
        return (
            operation.verb == UPDATE
            and operation.resource == CERTIFICATESIGNINGREQUESTS
            and operation.subresource == "status"
        )

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        before, after = (operation.old or {}).get("status") or {}, subject(operation).get("status") or {}
        if all(before.get(key) == after.get(key) for key in ("certificate", "conditions")):
            return
        signer = _signer(operation.old)
        if not await may(self._authorize, operation.user, "sign", signer):
            raise refuse(operation, f"user not permitted to sign requests with signerName {show(signer)}")


class ClusterTrustBundleAttest(BasePlugin):
    """Who writes a trust bundle must be allowed to attest for its signer."""

    name = "ClusterTrustBundleAttest"

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    def handles(self, operation: Operation) -> bool:
        """Creations and updates, where the resource is served."""
        return (
            operation.verb in (CREATE, UPDATE)
            and operation.resource.group == "certificates.k8s.io"
            and operation.resource.plural == "clustertrustbundles"
        )

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        signer = _signer(operation.object)
        if signer and not await may(self._authorize, operation.user, "attest", signer):
            raise refuse(operation, f"user not permitted to attest for signerName {show(signer)}")


class CertificateSubjectRestriction(BasePlugin):
    """Nobody asks to become a cluster administrator."""

    name = "CertificateSubjectRestriction"
    resources = (CERTIFICATESIGNINGREQUESTS,)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        request = subject(operation)
        if _signer(request) != CLIENT_SIGNER:
            return
        try:
            parsed = parse_request(request)
        except ValueError as exc:
            raise refuse(operation, f"unable to parse csr: {exc}") from exc
        if _MASTERS in organizations(parsed):
            told = f"use of {CLIENT_SIGNER} signer with {_MASTERS} group is not allowed"
            raise refuse(operation, told)


def parse_request(obj: Object) -> x509.CertificateSigningRequest:
    """The PKCS #10 request of a CertificateSigningRequest. Raises ValueError."""
    encoded = (obj.get("spec") or {}).get("request") or ""
    try:
        pem = base64.b64decode(encoded, validate=True)
    except binascii.Error as exc:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST") from exc
    if b"BEGIN CERTIFICATE REQUEST" not in pem:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    return x509.load_pem_x509_csr(pem)


def organizations(request: x509.CertificateSigningRequest) -> Sequence[Any]:
    """The groups a request asks to be in."""
    return [a.value for a in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def common_name(request: x509.CertificateSigningRequest) -> str:
    """The user name a request asks for."""
    names = [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[-1] if names else ""


def _signer(obj: Object | None) -> str:
    return str(((obj or {}).get("spec") or {}).get("signerName") or "")
