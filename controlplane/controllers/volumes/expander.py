"""Claims that ask for more than they have: who grows them.

All volumes that can grow do so through CSI, whose resizer watches claims itself; this controller tells users what the
claim waits for.

Source: k8s.io/kubernetes/pkg/controller/volume/expand/expand_controller.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from controlplane.controllers.volumes.matching import requested
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from machinery.api.meta import Object, key_of
from machinery.api.quantity import parse
from machinery.cache.informer import Informer
from machinery.controller import Controller
from machinery.events import EventRecorder

ACCOUNT = "expand-controller"


def wants_growth(claim: Object) -> bool:
    """Whether the bound claim asks for more than it has."""
    status = claim.get("status") or {}
    has = (status.get("capacity") or {}).get("storage")
    return status.get("phase") == "Bound" and has is not None and requested(claim) > parse(has)


@dataclass(frozen=True)
class Expander:
    """Looks at one claim."""

    claims: Informer
    volumes: Informer
    recorder: EventRecorder

    async def reconcile(self, key: str) -> float | None:
        """Tell who will grow the claim, if it wants to grow."""
        claim = self.claims.get(key)
        if claim is None or not wants_growth(claim):
            return None
        volume = self.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is None:
            return None
        if volume["spec"].get("csi"):
            told = "waiting for an external controller to expand this PVC"
            self.recorder.normal(claim, "ExternalExpanding", told)
        else:
            told = (
                "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external "
                "controller to process this PVC."
            )
            self.recorder.warning(claim, "ExternalExpanding", told)
        return None


def build(env: Environment) -> list[Controller]:
    """The controller of growing claims."""
    claims, volumes = env.informer(PERSISTENTVOLUMECLAIMS), env.informer(PERSISTENTVOLUMES)
    expander = Expander(claims, volumes, env.recorder("volume_expand", ACCOUNT))
    controller = Controller("volume_expand", expander.reconcile, workers=5)

    def claim_changed(old: Object | None, new: Object | None) -> None:
        if new is not None and wants_growth(new) and (old is None or requested(old) != requested(new)):
            controller.enqueue(key_of(new))

    claims.on_change(claim_changed)
    return [controller]
