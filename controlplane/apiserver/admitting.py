"""Running the admission plugins.

Source: k8s.io/apiserver/pkg/admission/chain.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.apiserver.admission.contract import Operation, Plugin


@dataclass(frozen=True, slots=True)
class Admission:
    """The plugins in their order."""

    plugins: Sequence[Plugin] = ()

    async def admit(self, operation: Operation) -> None:
        """The mutating phase. Raises a StatusError when a plugin refuses."""
        for plugin in self.plugins:
            if plugin.handles(operation):
                await plugin.admit(operation)

    async def validate(self, operation: Operation) -> None:
        """The validating phase. Raises a StatusError when a plugin refuses."""
        for plugin in self.plugins:
            if plugin.handles(operation):
                await plugin.validate(operation)
