"""Plugins that put a socket into plugins_registry: each is asked what it is, and told whether it was taken.

Source: kubelet's pluginmanager; k8s.io/kubelet/pkg/apis/pluginregistration.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.cri.errors import CriError
from agent.kubelet.plugins.api import registration_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from machinery.clock import Clock
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_RETRY_LOOKS = 10
_CALL_SECONDS = 10.0
_SERVICE = "/pluginregistration.Registration"

CSI, DEVICE, DRA = "CSIPlugin", "DevicePlugin", "DRAPlugin"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What a plugin says it is."""

    kind: str
    name: str
    endpoint: str
    versions: tuple[str, ...]


class PluginRefused(NavarchError):
    """A plugin can't be taken; the text goes to the plugin."""


class PluginHandler(Protocol):
    """What takes plugins of one kind."""

    async def register(self, info: PluginInfo) -> None:
        """Take the plugin. Raises PluginRefused, CriError."""
        ...

    async def deregister(self, info: PluginInfo) -> None:
        """The plugin's socket is gone."""
        ...


class PluginRegistry:
    """Follows a directory of sockets. One for the whole kubelet."""

    def __init__(self, directory: str, handlers: Mapping[str, PluginHandler], clock: Clock) -> None:
        self._directory, self._handlers, self._clock = directory, handlers, clock
        self._known: dict[str, tuple[tuple[int, int], PluginInfo | None]] = {}
        self._failed: dict[str, int] = {}

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Take what is new, and let go of what is gone."""
        present = dict(_sockets(self._directory))
        for path, (stamp, info) in list(self._known.items()):
            if present.get(path) != stamp:
                del self._known[path]
                if info is not None:
                    log.info("plugin is gone", kind=info.kind, name=info.name)
                    await self._handlers[info.kind].deregister(info)
        for path, stamp in present.items():
            if path in self._known or self._wait(path):
                continue
            try:
                self._known[path] = (stamp, await self._take(path))
                self._failed.pop(path, None)
            except CriError as error:
                log.warning("cannot reach plugin", path=path, err=str(error))
                self._failed[path] = _RETRY_LOOKS

    def _wait(self, path: str) -> bool:
        left = self._failed.get(path, 0)
        if left > 0:
            self._failed[path] = left - 1
        return left > 0

    async def _take(self, path: str) -> PluginInfo | None:
        channel = PluginChannel(path)
        try:
            told = await channel.call(f"{_SERVICE}/GetInfo", pb.InfoRequest(), pb.PluginInfo, _CALL_SECONDS)
            info = PluginInfo(told.type, told.name, told.endpoint or path, tuple(told.supported_versions))
            refusal = ""
            try:
                handler = self._handlers.get(info.kind)
                if handler is None:
                    raise PluginRefused(f"no handler registered for plugin type: {info.kind} at socket {path}")
                await handler.register(info)
                log.info("plugin registered", kind=info.kind, name=info.name, endpoint=info.endpoint)
            except (PluginRefused, CriError) as error:
                refusal = f"RegisterPlugin error -- plugin registration failed with err: {error}"
                log.error("plugin refused", kind=info.kind, name=info.name, err=str(error))
            status = pb.RegistrationStatus(plugin_registered=not refusal, error=refusal)
            await channel.call(
                f"{_SERVICE}/NotifyRegistrationStatus", status, pb.RegistrationStatusResponse, _CALL_SECONDS
            )
        finally:
            await channel.close()
        return info if not refusal else None


def _sockets(directory: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for base, _, names in os.walk(directory):
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(base, name)
            try:
                found = os.stat(path)
            except OSError:
                continue
            if stat.S_ISSOCK(found.st_mode):
                yield path, (found.st_ino, found.st_ctime_ns)
