"""Running the admission plugins.

Source: k8s.io/apiserver/pkg/admission/chain.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.apiserver.admission.contract import Operation, Plugin
from controlplane.apiserver.admission.plugin import BasePlugin
from machinery.api.resource import ResourceType

_Key = tuple[ResourceType, str, str]


class Admission:
    """The plugins in their order.

    Whom there is no use in asking is found out once for each resource, verb and subresource: plugins that handle other
    ones for good, and those that do nothing in a phase.
    """

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = tuple(plugins)
        self._asked: dict[_Key, tuple[tuple[Plugin, ...], tuple[Plugin, ...]]] = {}

    def _concerned(self, operation: Operation) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
        """The plugins to ask in the mutating phase, and in the validating one."""
        key = operation.resource, operation.verb, operation.subresource
        found = self._asked.get(key)
        if found is None:
            able = [plugin for plugin in self.plugins if not _for_others(plugin, operation)]
            found = self._asked[key] = (
                tuple(plugin for plugin in able if type(plugin).admit is not BasePlugin.admit),
                tuple(plugin for plugin in able if type(plugin).validate is not BasePlugin.validate),
            )
        return found

    async def admit(self, operation: Operation) -> None:
        """The mutating phase, in up to two rounds. Raises a StatusError when a plugin refuses."""
        await self._round(operation)
        if operation.rounds.wanted:
            operation.rounds.second = True
            await self._round(operation)

    async def _round(self, operation: Operation) -> None:
        for plugin in self._concerned(operation)[0]:
            if plugin.handles(operation):
                await plugin.admit(operation)

    async def validate(self, operation: Operation) -> None:
        """The validating phase. Raises a StatusError when a plugin refuses."""
        for plugin in self._concerned(operation)[1]:
            if plugin.handles(operation):
                await plugin.validate(operation)


def _for_others(plugin: Plugin, operation: Operation) -> bool:
    """Whether the plugin will never handle such operations: it says so by class attributes alone."""
    return (
        isinstance(plugin, BasePlugin) and type(plugin).handles is BasePlugin.handles and not plugin.handles(operation)
    )
