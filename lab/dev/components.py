"""Scheduler and controllers as `navarch dev` runs them: without leader election, as nobody else is there."""

from __future__ import annotations

from pathlib import Path

from controlplane.controllers import options as controller_options
from controlplane.controllers.clients import ManagerClients
from controlplane.controllers.manager import assemble
from controlplane.scheduler import flags as scheduler_flags
from controlplane.scheduler import program as scheduler
from lab.dev.cluster import POD_NETWORK
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock


async def schedule(config: ClientConfig) -> None:
    """Schedule pods until cancelled."""
    async with Client(config, user_agent="kube-scheduler") as client:
        await scheduler.schedule(client, scheduler_flags.parse([]))


async def control(config: ClientConfig, pki: Path) -> None:
    """Run every controller until cancelled."""
    options = controller_options.parse(
        [
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            "--use-service-account-credentials=true",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={POD_NETWORK}",
            "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
        ]
    )
    clock = SystemClock()
    async with ManagerClients(config, clock, own_accounts=True) as clients:
        await assemble(options, clients, clock).run()
