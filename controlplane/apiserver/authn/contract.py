"""The contract of authentication."""

from __future__ import annotations

from typing import Protocol

from controlplane.apiserver.request import Credentials, User


class Authenticator(Protocol):
    """One way to find out who asks."""

    async def authenticate(self, credentials: Credentials) -> User | None:
        """The user; None if there is nothing in `credentials` for this way.

        Raises Unauthorized if there is and it does not hold: no other way is then tried for the same token.
        """
        ...
