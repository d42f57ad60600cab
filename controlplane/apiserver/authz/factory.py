"""Hangs authorisation into the API server: from its settings to its Extensions."""

from __future__ import annotations

from controlplane.apiserver.authz import configuration
from controlplane.apiserver.authz.chain import build as build_chain
from controlplane.apiserver.authz.chain import of_modes
from controlplane.apiserver.authz.escalation import EscalationCheck
from controlplane.apiserver.authz.reviews import AccessReviews
from controlplane.apiserver.bootstrap.reconcile import (
    ensure_namespaces,
    ensure_priority_and_fairness,
    ensure_priority_classes,
    ensure_rbac,
)
from controlplane.apiserver.handlers.contract import Authorize, Extensions, Loopback, StartHook
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.settings import Settings
from machinery.api.catalogue import (
    LOCALSUBJECTACCESSREVIEWS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SUBJECTACCESSREVIEWS,
)


def build(settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize) -> Extensions:
    """The authorisers, access reviews, the escalation check and the objects of bootstrap. Raises SettingsError."""
    if settings.authorization_config:
        entries = list(configuration.load(settings.authorization_config))
    else:
        entries = of_modes(settings.authorization_modes, settings.authorization_webhook_config_file)
    chain = build_chain(entries, reader, policy_file=settings.authorization_policy_file)
    reviews = AccessReviews(chain)
    return Extensions(
        authorizers=(chain,),
        admission=(EscalationCheck(chain.rbac, authorize),) if chain.rbac is not None else (),
        virtual={
            (SUBJECTACCESSREVIEWS, ""): reviews.subject,
            (LOCALSUBJECTACCESSREVIEWS, ""): reviews.local,
            (SELFSUBJECTACCESSREVIEWS, ""): reviews.self_access,
            (SELFSUBJECTRULESREVIEWS, ""): reviews.self_rules,
        },
        start_hooks=start_hooks(rbac=chain.rbac is not None),
    )


def start_hooks(*, rbac: bool) -> dict[str, StartHook]:
    """What makes the objects that every cluster has, by upstream's names."""

    async def namespaces(api: Loopback, reader: Reader) -> None:
        await ensure_namespaces(api)

    async def roles(api: Loopback, reader: Reader) -> None:
        await ensure_namespaces(api)  # the roles of kube-system need it, whichever hook is first
        await ensure_rbac(api)

    async def flow_control(api: Loopback, reader: Reader) -> None:
        await ensure_priority_and_fairness(api)

    async def priority_classes(api: Loopback, reader: Reader) -> None:
        await ensure_priority_classes(api)

    hooks: dict[str, StartHook] = {
        "start-system-namespaces-controller": namespaces,
        "scheduling/bootstrap-system-priority-classes": priority_classes,
        "priority-and-fairness-config-producer": flow_control,
    }
    return hooks | ({"rbac/bootstrap-roles": roles} if rbac else {})
