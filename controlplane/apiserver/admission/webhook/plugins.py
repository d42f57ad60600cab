"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

Source: k8s.io/apiserver/pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go.
"""

from __future__ import annotations

import asyncio

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.patched import PatchError, apply_json_patch
from controlplane.apiserver.admission.plugin import BasePlugin
from controlplane.apiserver.admission.webhook.call import ask, patch_of
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admission.webhook.configured import Webhook, Webhooks
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS
from machinery.api.fielderror import show
from machinery.errors import InternalError, StatusError


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
        called: list[Webhook] = []
        last = -1  # the last one that changed something
        for webhook in self._webhooks.matching(operation):
            if await self._call(webhook, operation):
                last = len(called)
            called.append(webhook)
        for webhook in called[: max(last, 0)]:
            if webhook.reinvoked:
                await self._call(webhook, operation)

    async def _call(self, webhook: Webhook, operation: Operation) -> bool:
        """Call one; whether it changed the object."""
        response = await ask(self._client, webhook, operation)
        patch = patch_of(webhook, response) if response is not None else None
        if not patch:
            return False
        if operation.object is None:
            told = f"admission webhook {show(webhook.name)} attempted to modify the object, which is not supported"
            raise InternalError(f"Internal error occurred: {told} for this operation")
        before = operation.object
        try:
            operation.object = apply_json_patch(operation, patch)
        except PatchError as exc:
            told = f"Internal error occurred: failed calling webhook {show(webhook.name)}: {exc}"
            raise InternalError(told) from exc
        return operation.object != before


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
            running = [tasks.create_task(self._refusal(webhook, operation)) for webhook in webhooks]
        for task in running:
            if (refusal := task.result()) is not None:
                raise refusal

    async def _refusal(self, webhook: Webhook, operation: Operation) -> StatusError | None:
        try:
            await ask(self._client, webhook, operation)
        except StatusError as exc:
            return exc
        return None
