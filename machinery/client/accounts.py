"""As whom the controllers of a manager act: each as a ServiceAccount of its own, or all as the manager.

Source: k8s.io/controller-manager/pkg/clientbuilder, "DynamicControllerClientBuilder"; TokenRequest API.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from machinery.api.catalogue import SERVICEACCOUNTS
from machinery.api.meta import Object
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import AlreadyExists, NavarchError, NotFound
from machinery.leaderelection import LeaderElection

_NAMESPACE = "kube-system"
_TOKEN_SECONDS = 3600
_RENEW_AT = 0.8
_STANDING_BY = 32
_STAND_BY_SECONDS = 45.0  # less than either side keeps an idle connection


class AccountClient(Client):
    """A client that acts as a ServiceAccount, with tokens that it asks for, and renews, as `root`."""

    def __init__(self, root: Client, account: str, clock: Clock, program: str) -> None:
        bare = replace(root.config, client_certificate=None, client_key=None, token="", token_file="", impersonate="")
        super().__init__(bare, user_agent=f"{program}/system:serviceaccount:{_NAMESPACE}:{account}")
        self._root, self._account, self._clock = root, account, clock
        self._renew_at = float("-inf")
        self._renewing = asyncio.Lock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """As Client.request, with a token that is valid."""
        await self._ensure_token()
        return await super().request(method, path, query=query, body=body, content_type=content_type, headers=headers)

    async def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """As Client.stream, with a token that is valid."""
        await self._ensure_token()
        async for line in super().stream(path, query=query, headers=headers):
            yield line

    async def _ensure_token(self) -> None:
        if self._clock.monotonic() < self._renew_at:
            return
        async with self._renewing:
            if self._clock.monotonic() < self._renew_at:
                return
            asked_at = self._clock.monotonic()
            answer = await self._ask()
            self.use_token(str(answer["status"]["token"]))
            self._renew_at = asked_at + _TOKEN_SECONDS * _RENEW_AT

    async def _ask(self) -> Object:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        try:
            return await self._root.create_subresource(SERVICEACCOUNTS, self._account, "token", body, _NAMESPACE)
        except NotFound:
            await self._make_account()
            return await self._root.create_subresource(SERVICEACCOUNTS, self._account, "token", body, _NAMESPACE)

    async def _make_account(self) -> None:
        metadata = {"name": self._account, "namespace": _NAMESPACE}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        try:
            await self._root.create(SERVICEACCOUNTS, account)
        except AlreadyExists:
            return


class ClientPool:
    """All clients of the manager. Use as an async context manager."""

    def __init__(self, config: ClientConfig, clock: Clock, *, program: str, own_accounts: bool) -> None:
        """`own_accounts`: whether each controller acts as a ServiceAccount (--use-service-account-credentials)."""
        self._clock, self._program, self._own_accounts = clock, program, own_accounts
        self._stack = AsyncExitStack()
        self._accounts: dict[str, Client] = {}
        self._guard: Callable[[], None] | None = None
        self.lease = Client(config, user_agent=f"{program}/leader-election")
        self.root = Client(config, user_agent=program)
        self.watching = Client(config, user_agent=f"{program}/shared-informers")

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        for client in (self.lease, self.root, self.watching):
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def guard_with(self, guard: Callable[[], None]) -> None:
        """Have every write but those of the lease ask `guard` first."""
        self._guard = guard
        for client in (self.root, *self._accounts.values()):
            client.write_guard = guard

    async def lead(self, election: LeaderElection, work: Callable[[], Awaitable[None]]) -> None:
        """Stand by until the election is won, then do `work`, whose writes the lease guards. Raises LeadershipLost."""
        self.guard_with(election.guard)
        standing = asyncio.create_task(self.stand_by())

        async def leading() -> None:
            standing.cancel()
            await work()

        try:
            await election.run(leading)
        finally:
            standing.cancel()
            await asyncio.gather(standing, return_exceptions=True)

    async def stand_by(self) -> None:
        """Keep connections for the caches open, until cancelled.

        A new leader fills all its caches at once; with a TLS handshake for each of them that would take twice as long.
        """
        while True:
            results = await asyncio.gather(
                *(self.watching.request("GET", "/version") for _ in range(_STANDING_BY)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, NavarchError):
                    raise result
            await self._clock.sleep(_STAND_BY_SECONDS)

    def acting_as(self, account: str) -> Client:
        """The client of the controller whose ServiceAccount has this name; "" is the manager itself."""
        if not self._own_accounts or not account:
            return self.root
        if account not in self._accounts:
            client = AccountClient(self.root, account, self._clock, self._program)
            client.write_guard = self._guard
            self._stack.push_async_callback(client.close)
            self._accounts[account] = client
        return self._accounts[account]
