"""One call of an admission webhook: the AdmissionReview, and what its answer means.

Source: admission.k8s.io/v1; k8s.io/apiserver/pkg/admission/plugin/webhook/{request,errors}.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any

import orjson

from controlplane.apiserver.admission.admissionrequest import admission_request
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admission.webhook.configured import Webhook
from machinery.api.fielderror import show
from machinery.api.meta import Object
from machinery.errors import InternalError, StatusError, TransportError, status_error
from machinery.log import get_logger

log = get_logger(__name__)

_VERSIONS = ("v1", "v1beta1")


async def ask(client: WebhookClient, webhook: Webhook, operation: Operation) -> Object | None:
    """The response of a webhook that allows the operation; None if it could not be had and need not be.

    Raises the webhook's refusal as a StatusError, or InternalError if it could not be called and must be.
    """
    try:
        return await _answer(client, webhook, operation)
    except TransportError as exc:
        if webhook.fails_closed:
            told = f"failed calling webhook {show(webhook.name)}: {exc}"
            raise InternalError(f"Internal error occurred: {told}") from exc
        log.warning("failed calling webhook, failing open", webhook=webhook.name, err=str(exc))
        return None


async def _answer(client: WebhookClient, webhook: Webhook, operation: Operation) -> Object:
    versions = webhook.spec.get("admissionReviewVersions") or ["v1"]
    version = next((v for v in versions if v in _VERSIONS), None)
    if version is None:
        raise TransportError("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
    request: Object = {"uid": str(uuid.uuid4())} | admission_request(operation)
    request["object"], request["oldObject"] = operation.object, operation.old
    api_version = f"admission.k8s.io/{version}"
    review = {"kind": "AdmissionReview", "apiVersion": api_version, "request": request}
    try:
        answered = await client.call(webhook.spec.get("clientConfig") or {}, review, webhook.timeout_seconds)
    except TransportError as exc:
        raise TransportError(f"failed to call webhook: {exc}") from exc
    response = answered.get("response")
    if not isinstance(response, dict):
        raise TransportError("webhook response was absent")
    if version == "v1":
        if answered.get("apiVersion") != api_version or answered.get("kind") != "AdmissionReview":
            raise TransportError(
                f"expected webhook response of {api_version}, Kind=AdmissionReview, "
                f"got {answered.get('apiVersion')}, Kind={answered.get('kind')}"
            )
        if response.get("uid") != request["uid"]:
            raise TransportError(f"expected response.uid={show(request['uid'])}, got {show(response.get('uid') or '')}")
    for warning in response.get("warnings") or ():
        operation.warnings.append(str(warning))
    for key, value in (response.get("auditAnnotations") or {}).items():
        operation.audit_annotations[f"{webhook.name}/{key}"] = str(value)
    if response.get("allowed") is not True:
        raise refusal(webhook.name, response.get("status"))
    return response


def refusal(name: str, status: Any) -> StatusError:
    """The error for a webhook's no."""
    told = dict(status) if isinstance(status, dict) else {}
    code = told.get("code")
    told["code"] = code if isinstance(code, int) and 400 <= code <= 599 else 400
    denied = f"admission webhook {show(name)} denied the request"
    if told.get("message"):
        told["message"] = f"{denied}: {told['message']}"
    elif told.get("reason"):
        told["message"] = f"{denied}: {told['reason']}"
    else:
        told["message"] = f"{denied} without explanation"
    details = told.get("details")
    told["details"] = details if isinstance(details, dict) else None
    return status_error(told)


def patch_of(webhook: Webhook, response: Object) -> Any:
    """The JSON patch of a response, or None. Raises InternalError."""
    encoded = response.get("patch")
    if not encoded:
        return None
    if response.get("patchType") != "JSONPatch":
        kind = show(response.get("patchType") or "")
        raise InternalError(
            f"Internal error occurred: failed calling webhook {show(webhook.name)}: "
            f"webhook returned response.patch with unsupported response.patchType {kind}"
        )
    try:
        return orjson.loads(base64.b64decode(encoded))
    except (ValueError, binascii.Error) as exc:
        raise InternalError(
            f"Internal error occurred: failed calling webhook {show(webhook.name)}: the patch can't be read"
        ) from exc
