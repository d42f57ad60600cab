"""Hangs admission into the API server: the plugins that are on, in upstream's order.

Source: k8s.io/kubernetes/pkg/kubeapiserver/options/plugins.go, v1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controlplane.apiserver.admission import configuration
from controlplane.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
)
from controlplane.apiserver.admission.contract import Plugin
from controlplane.apiserver.admission.declaredfeatures import NodeDeclaredFeatureValidator
from controlplane.apiserver.admission.eventratelimit import EventRateLimit
from controlplane.apiserver.admission.limitranger import LimitRanger
from controlplane.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from controlplane.apiserver.admission.namespaces import (
    NamespaceAutoProvision,
    NamespaceExists,
    PodNodeSelector,
    PodTolerationRestriction,
)
from controlplane.apiserver.admission.network import DefaultIngressClass, DenyServiceExternalIPs
from controlplane.apiserver.admission.noderestriction import NodeRestriction
from controlplane.apiserver.admission.nodes import TaintNodesByCondition
from controlplane.apiserver.admission.owners import OwnerReferencesPermissionEnforcement
from controlplane.apiserver.admission.plugin import AlwaysDeny
from controlplane.apiserver.admission.podresize import PodResizeValidator
from controlplane.apiserver.admission.pods import (
    AlwaysPullImages,
    DefaultTolerationSeconds,
    ExtendedResourceToleration,
    LimitPodHardAntiAffinityTopology,
    PodTopologyLabels,
)
from controlplane.apiserver.admission.podsecurity.plugin import PodSecurity
from controlplane.apiserver.admission.policy.mutating import MutatingAdmissionPolicy
from controlplane.apiserver.admission.policy.validating import ValidatingAdmissionPolicy
from controlplane.apiserver.admission.priority import Priority
from controlplane.apiserver.admission.resourcequota import ResourceQuota
from controlplane.apiserver.admission.runtimeclass import RuntimeClass
from controlplane.apiserver.admission.serviceaccount import ServiceAccount
from controlplane.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admission.webhook.plugins import MutatingAdmissionWebhook, ValidatingAdmissionWebhook
from controlplane.apiserver.handlers.contract import Authorize, Extensions, Loopback
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.settings import Settings
from machinery.api.meta import Object
from machinery.clock import Clock, SystemClock
from machinery.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Parts:
    """What plugins are made from."""

    reader: Reader
    loopback: Loopback
    authorize: Authorize
    clock: Clock
    client: WebhookClient
    configured: dict[str, Object]
    settings: Settings


Make = Callable[[Parts], Plugin]

# In upstream's order. Those with None are upstream's for features that are off, or wait for a feature of a resource
# that is not served: to name them does no harm.
_ALL: dict[str, Make | None] = {
    "AlwaysAdmit": None,
    "NamespaceAutoProvision": lambda p: NamespaceAutoProvision(p.reader, p.loopback),
    "NamespaceLifecycle": lambda p: NamespaceLifecycle(p.reader, p.clock),
    "NamespaceExists": lambda p: NamespaceExists(p.reader),
    "LimitPodHardAntiAffinityTopology": lambda p: LimitPodHardAntiAffinityTopology(),
    "LimitRanger": lambda p: LimitRanger(p.reader),
    "ServiceAccount": lambda p: ServiceAccount(p.reader),
    "NodeRestriction": lambda p: NodeRestriction(p.reader, p.authorize),
    "TaintNodesByCondition": lambda p: TaintNodesByCondition(),
    "AlwaysPullImages": lambda p: AlwaysPullImages(),
    "PodSecurity": lambda p: PodSecurity(p.reader, configuration.pod_security(p.configured.get("PodSecurity"))),
    "PodNodeSelector": lambda p: PodNodeSelector(p.reader, p.configured.get("PodNodeSelector")),
    "Priority": lambda p: Priority(p.reader),
    "DefaultTolerationSeconds": lambda p: DefaultTolerationSeconds(
        p.settings.default_not_ready_toleration_seconds, p.settings.default_unreachable_toleration_seconds
    ),
    "PodTolerationRestriction": lambda p: PodTolerationRestriction(
        p.reader, p.configured.get("PodTolerationRestriction")
    ),
    "EventRateLimit": lambda p: EventRateLimit(p.clock, p.configured.get("EventRateLimit")),
    "ExtendedResourceToleration": lambda p: ExtendedResourceToleration(),
    "DefaultStorageClass": lambda p: DefaultStorageClass(p.reader),
    "StorageObjectInUseProtection": lambda p: StorageObjectInUseProtection(),
    "PodGroupProtection": None,
    "OwnerReferencesPermissionEnforcement": lambda p: OwnerReferencesPermissionEnforcement(p.reader, p.authorize),
    "PersistentVolumeClaimResize": lambda p: PersistentVolumeClaimResize(p.reader),
    "RuntimeClass": lambda p: RuntimeClass(p.reader),
    "CertificateApproval": lambda p: CertificateApproval(p.authorize),
    "CertificateSigning": lambda p: CertificateSigning(p.authorize),
    "ClusterTrustBundleAttest": lambda p: ClusterTrustBundleAttest(p.authorize),
    "CertificateSubjectRestriction": lambda p: CertificateSubjectRestriction(),
    "DefaultIngressClass": lambda p: DefaultIngressClass(p.reader),
    "DenyServiceExternalIPs": lambda p: DenyServiceExternalIPs(),
    "PodTopologyLabels": lambda p: PodTopologyLabels(p.reader),
    "PodGroupWorkloadExists": None,
    "NodeDeclaredFeatureValidator": lambda p: NodeDeclaredFeatureValidator(p.reader),
    "JobValidation": None,
    "PodResizeValidator": lambda p: PodResizeValidator(p.reader),
    "MutatingAdmissionPolicy": lambda p: MutatingAdmissionPolicy(p.reader, p.authorize),
    "MutatingAdmissionWebhook": lambda p: MutatingAdmissionWebhook(p.reader, p.client, p.authorize),
    "ValidatingAdmissionPolicy": lambda p: ValidatingAdmissionPolicy(p.reader, p.authorize),
    "ValidatingAdmissionWebhook": lambda p: ValidatingAdmissionWebhook(p.reader, p.client, p.authorize),
    "ResourceQuota": lambda p: ResourceQuota(
        p.reader, p.loopback, configuration.limited_resources(p.configured.get("ResourceQuota"))
    ),
    "AlwaysDeny": lambda p: AlwaysDeny(),
}

_OFF = frozenset(
    {
        "AlwaysAdmit",
        "AlwaysDeny",
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "LimitPodHardAntiAffinityTopology",
        "NamespaceAutoProvision",
        "NamespaceExists",
        "NodeRestriction",
        "OwnerReferencesPermissionEnforcement",
        "PodNodeSelector",
        "PodTolerationRestriction",
    }
)

DEFAULT = tuple(name for name in _ALL if name not in _OFF)
"""The plugins that are on unless --disable-admission-plugins names them."""


def enabled(on: Sequence[str], off: Sequence[str]) -> list[str]:
    """The plugins to run, in their order. Raises SettingsError."""
    for flag, names in (("--enable-admission-plugins", on), ("--disable-admission-plugins", off)):
        for name in names:
            if name == "ImagePolicyWebhook":
                raise SettingsError(f"{flag}: ImagePolicyWebhook is not supported; use a ValidatingAdmissionWebhook")
            if name not in _ALL:
                raise SettingsError(f"{flag}: unknown admission plugin {name!r}; known are {', '.join(_ALL)}")
    if both := sorted(set(on) & set(off)):
        raise SettingsError(f"{', '.join(both)} in both --enable-admission-plugins and --disable-admission-plugins")
    return [name for name in _ALL if name in on or (name in DEFAULT and name not in off)]


def build(
    settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize, *, clock: Clock | None = None
) -> Extensions:
    """The admission plugins, and the rules for approving certificates. Raises SettingsError."""
    configured = configuration.load(settings.admission_control_config_file)
    parts = Parts(reader, loopback, authorize, clock or SystemClock(), WebhookClient(reader), configured, settings)
    makers = [_ALL[name] for name in enabled(settings.enable_admission_plugins, settings.disable_admission_plugins)]
    return Extensions(
        admission=[make(parts) for make in makers if make is not None],
        closers=(parts.client.close,),
    )
