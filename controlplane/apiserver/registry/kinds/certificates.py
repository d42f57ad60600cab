"""CertificateSigningRequests."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.CERTIFICATESIGNINGREQUESTS: Strategy(
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"spec.signerName": lambda csr: text(csr, "spec", "signerName")},
    ),
}
