"""A volume as containers get it."""

from __future__ import annotations

from dataclasses import dataclass

from machinery.api.meta import Object


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume that is ready for containers."""

    name: str
    path: str  # on the host; empty for an image volume
    read_only: bool = False
    image: Object | None = None  # an image volume: mounted by the runtime
    device: str = ""  # a block volume: the device on the host, instead of a path
