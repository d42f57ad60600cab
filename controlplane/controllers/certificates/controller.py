"""The approver, the signers and the cleaner of CertificateSigningRequests.

Source: k8s.io/kubernetes/pkg/controller/certificates/{approver,signer,cleaner}.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from controlplane.controllers.certificates import rules
from controlplane.controllers.environment import Environment
from controlplane.controllers.options import Options
from machinery import pki
from machinery.api.catalogue import CERTIFICATESIGNINGREQUESTS, SUBJECTACCESSREVIEWS
from machinery.api.meta import Object, format_time, name_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller, Reconcile
from machinery.errors import Forbidden, NotFound, SettingsError
from machinery.log import get_logger
from machinery.periodic import every
from machinery.pki import KeyPair, PKIError

log = get_logger(__name__)

ACCOUNT = "certificate-controller"
_SIGNER_FLAGS = {
    rules.CLIENT: "kube-apiserver-client",
    rules.KUBELET_CLIENT: "kubelet-client",
    rules.KUBELET_SERVING: "kubelet-serving",
    rules.LEGACY_UNKNOWN: "legacy-unknown",
}
_CLEAN_SECONDS = 3600.0


@dataclass(frozen=True)
class Approver:
    """Approves requests of kubelets for their own client certificate, if RBAC lets them ask."""

    requests: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One request."""
        csr = self.requests.get(key)
        if (
            csr is None
            or (csr.get("status") or {}).get("certificate")
            or csr["spec"].get("signerName") != rules.KUBELET_CLIENT
        ):
            return None
        decided = any(rules.has_condition(csr, kind) for kind in ("Approved", "Denied"))
        if decided or (csr.get("status") or {}).get("certificate"):
            return None
        try:
            request = rules.request_of(csr)
        except PKIError as exc:
            log.info("request can't be read", csr=key, err=str(exc))
            return None
        if rules.kubelet_client_error(request, csr["spec"].get("usages") or ()):
            return None
        if csr["spec"].get("username") == pki.common_name(request) and await self._may(csr, "selfnodeclient"):
            await self._approve(csr, "Auto approving self kubelet client certificate after SubjectAccessReview.")
        elif await self._may(csr, "nodeclient"):
            await self._approve(csr, "Auto approving kubelet client certificate after SubjectAccessReview.")
        else:
            raise Forbidden(f'recognized csr "{key}" as nodeclient but subject access review was not approved')
        return None

    async def _may(self, csr: Object, subresource: str) -> bool:
        spec = csr["spec"]
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.get("username", ""),
                "uid": spec.get("uid", ""),
                "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {},
                "resourceAttributes": {
                    "group": "certificates.k8s.io",
                    "resource": "certificatesigningrequests",
                    "verb": "create",
                    "subresource": subresource,
                    "version": "*",
                },
            },
        }
        answer = await self.client.create(SUBJECTACCESSREVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, csr: Object, message: str) -> None:
        now = format_time(self.clock.now())
        approved = {
            "type": "Approved",
            "status": "True",
            "reason": "AutoApproved",
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        status = csr.get("status") or {}
        changed = {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), approved]}}
        await self.client.update(CERTIFICATESIGNINGREQUESTS, changed, subresource="approval")


@dataclass(frozen=True)
class Signer:
    """Signs the approved requests of one signer name."""

    name: str
    authority: Callable[[], KeyPair]
    longest: timedelta
    requests: Informer
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One request."""
        csr = self.requests.get(key)
        if csr is None or csr["spec"].get("signerName") != self.name or (csr.get("status") or {}).get("certificate"):
            return None
        if not rules.is_approved(csr) or rules.has_condition(csr, "Failed"):
            return None
        request = rules.request_of(csr)
        status = csr.get("status") or {}
        if error := rules.signing_error(csr, request):
            now = format_time(self.clock.now())
            failed = {
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": error,
                "lastUpdateTime": now,
                "lastTransitionTime": now,
            }
            status = {**status, "conditions": [*(status.get("conditions") or ()), failed]}
        else:
            certificate = pki.sign_request(
                self.authority(),
                request,
                usages=csr["spec"].get("usages") or (),
                lifetime=rules.lifetime(csr, self.longest),
                now=self.clock.now(),
            )
            text = base64.b64encode(pki.certificate_pem(certificate)).decode()
            status = {**status, "certificate": text}
        await self.client.update(CERTIFICATESIGNINGREQUESTS, {**csr, "status": status}, subresource="status")
        return None


@dataclass(frozen=True)
class Cleaner:
    """Deletes requests that have served their time."""

    requests: Informer
    client: Client
    clock: Clock

    async def clean(self) -> None:
        """One round."""
        now = self.clock.now()
        for csr in self.requests.list():
            if rules.is_over(csr, now):
                try:
                    await self.client.delete(CERTIFICATESIGNINGREQUESTS, name_of(csr), uid=uid_of(csr))
                except NotFound:
                    continue


def build_approver(env: Environment) -> list[Controller]:
    """The approver of kubelets' requests."""
    requests = env.informer(CERTIFICATESIGNINGREQUESTS)
    approver = Approver(requests, env.client_for(ACCOUNT), env.clock)
    return [_watching("certificate", approver.reconcile, requests)]


def build_signers(env: Environment) -> list[Controller]:
    """A signer for each of Kubernetes' signer names that has an authority. Raises SettingsError."""
    requests, client = env.informer(CERTIFICATESIGNINGREQUESTS), env.client_for(ACCOUNT)
    longest = timedelta(seconds=env.options["cluster-signing-duration"])
    made = []
    for name, flag in _SIGNER_FLAGS.items():
        authority = _authority(env.options, flag)
        if authority is not None:
            signer = Signer(name, authority, longest, requests, client, env.clock)
            made.append(_watching(f"csrsigning-{flag}", signer.reconcile, requests))
    return made


def build_cleaner(env: Environment) -> list[Controller]:
    """The cleaner."""
    requests = env.informer(CERTIFICATESIGNINGREQUESTS)
    cleaner = Cleaner(requests, env.client_for(ACCOUNT), env.clock)
    return [every("csrcleaner", _CLEAN_SECONDS, cleaner.clean)]


def _watching(name: str, reconcile: Reconcile, requests: Informer) -> Controller:
    controller = Controller(name, reconcile, workers=5)
    requests.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    return controller


def _authority(options: Options, signer: str) -> Callable[[], KeyPair] | None:
    """Reads the signer's authority afresh each time, so that a rotated one is used; None if there is none."""
    certificate, key = options.authority(signer)
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise SettingsError(f"--cluster-signing-{signer}-cert-file and --cluster-signing-{signer}-key-file go together")

    def read() -> KeyPair:
        return pki.read_pair(Path(certificate), Path(key))

    try:
        read()
    except PKIError as exc:
        raise SettingsError(f"the authority that signs for {signer}: {exc}") from exc
    return read
