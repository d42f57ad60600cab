"""What ResourceClaims and pods say of each other, for all who read them.

A pod whose extended resources come from devices has one special claim for them, which the scheduler makes.

Source: Dynamic Resource Allocation; KEP-5004; k8s.io/api/resource/v1 (Finalizer, ExtendedResourceClaimAnnotation).
"""

from __future__ import annotations

from collections.abc import Iterable

from machinery.api.meta import Object, annotations_of

FINALIZER = "resource.kubernetes.io/delete-protection"
SPECIAL = "resource.kubernetes.io/extended-resource-claim"
"""The annotation of a special claim."""


def is_special(claim: Object) -> bool:
    """Whether a claim was made for extended resources."""
    return annotations_of(claim).get(SPECIAL) == "true"


def special_status(pod: Object) -> Object:
    """What the scheduler says of the pod's special claim; empty if there is none."""
    return (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}


def requests_of(claim: Object) -> Iterable[Object]:
    """The requests for devices in a claim."""
    found: Iterable[Object] = ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ()
    return found
