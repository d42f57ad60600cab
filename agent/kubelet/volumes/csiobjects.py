"""What the API server knows that CSI needs on a node: drivers' policies, attachments, secrets, tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

import orjson

from agent.kubelet.container.errors import VolumeError
from agent.kubelet.volumes.tokens import Tokens
from machinery.api.catalogue import CSIDRIVERS, SECRETS, VOLUMEATTACHMENTS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import Forbidden, NotFound, StatusError, TransportError

_TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


class CsiObjects:
    """Reads them. One for the whole kubelet."""

    def __init__(self, client: Client | None, tokens: Tokens, node_name: str) -> None:
        self._client, self._tokens, self.node_name = client, tokens, node_name

    async def driver(self, name: str) -> Object:
        """The spec of a CSIDriver; an empty one if there is none. Raises VolumeError."""
        if self._client is None:
            raise VolumeError("CSI volumes need an API server")
        try:
            return (await self._client.get(CSIDRIVERS, name)).get("spec") or {}
        except NotFound:
            return {}
        except (StatusError, TransportError) as error:
            raise VolumeError(f"failed to fetch CSIDriver {name}: {error}") from error

    def attachment_name(self, handle: str, driver: str) -> str:
        """The name of the VolumeAttachment of a volume on this node."""
        return "csi-" + hashlib.sha256(f"{handle}{driver}{self.node_name}".encode()).hexdigest()

    async def attachment_metadata(self, volume_name: str, driver: str, handle: str) -> Mapping[str, str]:
        """What the attacher said of an attached volume. Raises VolumeError while it isn't attached."""
        if self._client is None:
            raise VolumeError("CSI volumes need an API server")
        name = self.attachment_name(handle, driver)
        try:
            found = await self._client.get(VOLUMEATTACHMENTS, name)
        except (NotFound, Forbidden) as error:  # a node may not ask for what isn't there
            raise VolumeError(
                f"volume {volume_name} is not attached yet: VolumeAttachment {name} not found",
                reason="FailedAttachVolume",
            ) from error
        except (StatusError, TransportError) as error:
            raise VolumeError(f"failed to fetch VolumeAttachment {name}: {error}") from error
        status = found.get("status") or {}
        if not status.get("attached"):
            why = (status.get("attachError") or {}).get("message") or "waiting for it to be attached"
            raise VolumeError(f"volume {volume_name}: {why}", reason="FailedAttachVolume")
        return status.get("attachmentMetadata") or {}

    async def secret(self, reference: Object | None) -> dict[str, str]:
        """The contents of a secret that a volume refers to. Raises VolumeError."""
        if not reference or self._client is None:
            return {}
        name, namespace = reference["name"], reference.get("namespace") or ""
        try:
            found = await self._client.get(SECRETS, name, namespace)
        except (StatusError, TransportError) as error:
            raise VolumeError(
                f"failed to find the secret {name} in the namespace {namespace} with error: {error}"
            ) from error
        return {k: base64.b64decode(v).decode(errors="replace") for k, v in (found.get("data") or {}).items()}

    async def tokens(self, pod: Object, wanted: Sequence[Object]) -> dict[str, str]:
        """Service account tokens for a driver that asks for them. Raises VolumeError."""
        if not wanted:
            return {}
        made = {}
        for request in wanted:
            audience = request.get("audience") or ""
            held = await self._tokens.held(pod, audience, int(request.get("expirationSeconds") or 3600))
            made[audience] = {"token": held.token, "expirationTimestamp": held.expires}
        return {_TOKENS: orjson.dumps(made).decode()}
