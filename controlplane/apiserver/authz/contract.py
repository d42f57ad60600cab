"""The contract of authorisation."""

from __future__ import annotations

import enum
from typing import Protocol

from controlplane.apiserver.request import RequestInfo, User


class Decision(enum.Enum):
    """What one authoriser says; the first that does not say NO_OPINION decides, and nobody's opinion is a no."""

    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


class Authorizer(Protocol):
    """One way to decide whether a user may."""

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        """The decision, and why (shown to the user when refused)."""
        ...
