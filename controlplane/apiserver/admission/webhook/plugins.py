"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

Source: k8s.io/apiserver/pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.patched import PatchError, apply_json_patch
from controlplane.apiserver.admission.plugin import BasePlugin
from controlplane.apiserver.admission.webhook.call import ask, check_unpatched, fail_open, patch_of
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admission.webhook.configured import Webhook, Webhooks
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS
from machinery.api.fielderror import show
from machinery.errors import InternalError, StatusError, TransportError


class MutatingAdmissionWebhook(BasePlugin):
    """Calls webhooks one after the other and applies their patches."""

    name = "MutatingAdmissionWebhook"

    def __init__(self, reader: Reader, client: WebhookClient, authorize: Authorize) -> None:
        self._client = client
        self._webhooks = Webhooks(reader, MUTATINGWEBHOOKCONFIGURATIONS, authorize)

    def handles(self, operation: Operation) -> bool:
        """What a webhook is about."""
        return self._webhooks.concern(operation)

    async def admit(self, operation: Operation) -> None:
        """Raises a webhook's refusal, InternalError, BadRequest."""
        recalls = operation.rounds.of(self.name, operation.object)
        for index, webhook in self._webhooks.matching(operation):
            which = webhook.configuration, webhook.name
            if recalls.skips(which):
                continue
            changed = False
            try:
                changed = await self._call(webhook, operation, index)
            finally:
                _annotate(operation, webhook, index, "mutation", {"mutated": changed})
            recalls.called(which, changed=changed, again=webhook.reinvoked)
        recalls.end(operation.object)

    async def _call(self, webhook: Webhook, operation: Operation, index: int) -> bool:
        """Call one; whether it changed the object."""
        try:
            response = await ask(self._client, webhook, operation)
            patch = patch_of(response)
        except TransportError as exc:
            self._failed(webhook, operation, exc, index)
            return False
        if not patch:
            return False
        if operation.object is None:
            told = f"admission webhook {show(webhook.name)} attempted to modify the object, which is not supported"
            raise InternalError(f"Internal error occurred: {told} for this operation")
        before = orjson.dumps(operation.object)
        try:
            operation.object = apply_json_patch(operation, patch)
        except PatchError as exc:
            raise InternalError(f"Internal error occurred: {exc}") from exc
        _annotate(operation, webhook, index, "patch", {"patch": patch, "patchType": "JSONPatch"})
        return orjson.dumps(operation.object) != before

    def _failed(self, webhook: Webhook, operation: Operation, exc: TransportError, index: int) -> None:
        fail_open(webhook, exc)
        key = f"failed-open.mutation.webhook.admission.k8s.io/round_{int(operation.rounds.second)}_index_{index}"
        operation.audit_annotations[key] = webhook.name


def _annotate(operation: Operation, webhook: Webhook, index: int, what: str, told: dict[str, Any]) -> None:
    """Tell the audit what a webhook did; patches are for events that have the request in them."""
    key = f"{what}.webhook.admission.k8s.io/round_{int(operation.rounds.second)}_index_{index}"
    said = {"configuration": webhook.configuration, "webhook": webhook.name, **told}
    operation.audit_annotations[key] = orjson.dumps(said).decode()


class ValidatingAdmissionWebhook(BasePlugin):
    """Calls webhooks all at once; the first refusal in their order is told."""

    name = "ValidatingAdmissionWebhook"

    def __init__(self, reader: Reader, client: WebhookClient, authorize: Authorize) -> None:
        self._client = client
        self._webhooks = Webhooks(reader, VALIDATINGWEBHOOKCONFIGURATIONS, authorize)

    def handles(self, operation: Operation) -> bool:
        """What a webhook is about."""
        return self._webhooks.concern(operation)

    async def validate(self, operation: Operation) -> None:
        """Raises a webhook's refusal, InternalError, BadRequest."""
        webhooks = list(self._webhooks.matching(operation))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._refusal(webhook, operation, index)) for index, webhook in webhooks]
        for task in running:
            if (refusal := task.result()) is not None:
                raise refusal

    async def _refusal(self, webhook: Webhook, operation: Operation, index: int) -> StatusError | None:
        try:
            check_unpatched(await ask(self._client, webhook, operation))
        except TransportError as exc:
            try:
                fail_open(webhook, exc)
            except InternalError as refusal:
                return refusal
            key = f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}"
            operation.audit_annotations[key] = webhook.name
        except StatusError as exc:
            return exc
        return None
