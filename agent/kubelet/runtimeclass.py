"""RuntimeClasses: which of the runtime's handlers a pod wants.

Source: Runtime Class; node.k8s.io/v1.
"""

from __future__ import annotations

from agent.kubelet.container.errors import StartError
from machinery.api.catalogue import RUNTIMECLASSES
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError


class RuntimeClasses:
    """Handlers by class. Few pods have one, so they are read when asked for."""

    def __init__(self, client: Client | None) -> None:
        self._client = client

    async def handler(self, name: str) -> str:
        """The handler that a RuntimeClass names; empty for no class. Raises StartError."""
        if not name:
            return ""
        if self._client is None:
            raise StartError(f'RuntimeClass "{name}" not found: this kubelet has no API server')
        try:
            found = await self._client.get(RUNTIMECLASSES, name)
        except NotFound as error:
            raise StartError(f'RuntimeClass "{name}" not found') from error
        except (StatusError, TransportError) as error:
            raise StartError(f'Failed to get RuntimeClass "{name}": {error}') from error
        return str(found.get("handler") or "")
