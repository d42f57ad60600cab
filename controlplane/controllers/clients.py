"""The clients of kube-controller-manager."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from controlplane.controllers.garbage.monitors import MetadataClient
from machinery.client.accounts import ClientPool
from machinery.client.config import ClientConfig
from machinery.clock import Clock

PROGRAM = "kube-controller-manager"


class ManagerClients(ClientPool):
    """The pool, and a client whose lists and watches carry metadata alone."""

    def __init__(self, config: ClientConfig, clock: Clock, *, own_accounts: bool) -> None:
        super().__init__(config, clock, program=PROGRAM, own_accounts=own_accounts)
        self.metadata = MetadataClient(config, user_agent=f"{PROGRAM}/metadata-informers")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.metadata.close()
        await super().__aexit__(kind, error, trace)
