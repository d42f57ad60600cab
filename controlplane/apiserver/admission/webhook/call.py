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


async def ask(client: WebhookClient, webhook: Webhook, operation: Operation) -> Object:
    """The response of a webhook that allows the operation.

    Raises:
        StatusError: the webhook's refusal.
        TransportError: it could not be called, or what it answered is no answer.
    """
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
    response = _verified(answered, api_version, request["uid"])
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


def fail_open(webhook: Webhook, failure: TransportError) -> None:
    """Go on without a webhook that could not be called. Raises InternalError if it must be."""
    if webhook.fails_closed:
        told = f"failed calling webhook {show(webhook.name)}: {failure}"
        raise InternalError(f"Internal error occurred: {told}") from failure
    log.warning("failed calling webhook, failing open", webhook=webhook.name, err=str(failure))


def _verified(answered: Object, api_version: str, uid: str) -> Object:
    """The response of an AdmissionReview. Raises TransportError."""
    response = answered.get("response")
    if not isinstance(response, dict):
        raise _bad_response("webhook response was absent")
    if not api_version.endswith("/v1"):  # neither kind nor uid were looked at in v1beta1
        return {**response, "patchType": "JSONPatch"} if response.get("patch") else {**response, "patchType": None}
    if (given := response.get("uid") or "") != uid:
        raise _bad_response(f"expected response.uid={show(uid)}, got {show(given)}")
    if answered.get("apiVersion") != api_version or answered.get("kind") != "AdmissionReview":
        raise _bad_response(
            f"expected webhook response of {api_version}, Kind=AdmissionReview, "
            f"got {answered.get('apiVersion')}, Kind={answered.get('kind')}"
        )
    return response


def _bad_response(told: str) -> TransportError:
    return TransportError(f"received invalid webhook response: {told}")


def check_unpatched(response: Object) -> None:
    """Validating webhooks change nothing. Raises TransportError."""
    for field in ("patch", "patchType"):
        if response.get(field):
            raise _bad_response(f"validating webhook may not return response.{field}")


def patch_of(response: Object) -> list[Any]:
    """The JSON patch of a response. Raises TransportError."""
    encoded, kind = response.get("patch"), response.get("patchType")
    if encoded and kind is None:
        raise _bad_response("webhook returned response.patch but not response.patchType")
    if not encoded and kind is not None:
        raise _bad_response("webhook returned response.patchType but not response.patch")
    if not encoded:
        return []
    if not kind:
        raise _bad_response('webhook returned invalid response.patchType of ""')
    try:
        patch = orjson.loads(base64.b64decode(encoded))
    except (ValueError, binascii.Error) as exc:
        raise TransportError(f"received undecodable patch in webhook response: {exc}") from exc
    if not isinstance(patch, list):
        told = "json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        raise TransportError(f"received undecodable patch in webhook response: {told}")
    if patch and kind != "JSONPatch":
        raise TransportError(f"unsupported patch type {show(kind)}")
    return patch
