"""Why a pod or container could not be brought up, as users see it.

NavarchError
└── StartError               `reason` is what a waiting container shows, `message` says more
    ├── ContainerConfigError CreateContainerConfigError: the spec asks for what isn't there
    ├── ImageError           ErrImagePull, ImagePullBackOff, InvalidImageName, ErrImageNeverPull, …
    └── …                    others are raised as StartError with their reason
"""

from __future__ import annotations

from machinery.errors import NavarchError


class StartError(NavarchError):
    """A container, or what it needs, could not be made; the pod's worker tries again later."""

    def __init__(self, message: str, *, reason: str = "StartError") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class ContainerConfigError(StartError):
    """What the container's spec refers to is not there, or can't be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="CreateContainerConfigError")


class ImageError(StartError):
    """The image can't be had now."""


class VolumeError(NavarchError):
    """A volume could not be set up; `reason` is the event's (FailedMount, FailedAttachVolume, …)."""

    def __init__(self, message: str, *, reason: str = "FailedMount") -> None:
        super().__init__(message)
        self.reason = reason
