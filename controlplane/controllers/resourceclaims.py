"""ResourceClaims: made for pods that want them of a template, freed when nobody uses them any more.

Source: k8s.io/kubernetes/pkg/controller/resourceclaim/controller.go; KEP-4381 (dynamic resource allocation).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.controllers import metrics
from controlplane.controllers.environment import Environment
from controlplane.controllers.ownership import controlled
from controlplane.controllers.podcontrol import namespace_terminates
from controlplane.controllers.pods import is_finished, node_of
from machinery.api.catalogue import PODS, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES
from machinery.api.meta import (
    Object,
    annotations_of,
    controller_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from machinery.api.resourceclaims import FINALIZER, special_status
from machinery.cache.informer import Informer
from machinery.client.rest import APPLY, STRATEGIC, Client
from machinery.controller import Controller
from machinery.errors import Conflict, NavarchError, NotFound
from machinery.events import EventRecorder

ACCOUNT = "resource-claim-controller"
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
FIELD_MANAGER = "ResourceClaimController"
CLAIM_INDEX = "resourceclaim"
_BASE_LENGTH = 57  # room for a hyphen and the five random letters of a name of 63


def is_done(pod: Object) -> bool:
    """Whether none of the pod's containers run or ever will."""
    return is_finished(pod) or (is_deleting(pod) and not node_of(pod))


def claim_names(pod: Object) -> dict[str, str]:
    """The pod's claims by the names it gives them; "" for one that a template is yet to make."""
    made = {s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    found: dict[str, str] = {}
    for entry in pod["spec"].get("resourceClaims") or ():
        if entry.get("resourceClaimName"):
            found[entry["name"]] = entry["resourceClaimName"]
        elif entry["name"] not in made:
            found[entry["name"]] = ""
        elif made[entry["name"]]:  # else the template was not needed after all
            found[entry["name"]] = str(made[entry["name"]])
    return found


def claim_keys(pod: Object) -> list[str]:
    """The index of pods: by the keys of the claims they use, that for their extended resources included."""
    names = [*claim_names(pod).values(), special_claim(pod)]
    return [f"{namespace_of(pod)}/{name}" for name in names if name]


def special_claim(pod: Object) -> str:
    """The claim that the scheduler has made for the pod's extended resources, or ""."""
    return str(special_status(pod).get("resourceClaimName") or "")


def make_claim(pod: Object, name: str, template: Object) -> Object:
    """The claim of one of the pod's templates."""
    spec = template["spec"]
    described = spec.get("metadata") or {}
    base = f"{name_of(pod)}-{name}"
    if len(base) > _BASE_LENGTH:  # cut at the end it would no longer tell which claim it is
        base = "-".join(part[: len(part) * _BASE_LENGTH // len(base)] for part in (name_of(pod), name))
    metadata: Object = {
        "generateName": f"{base}-",
        "namespace": namespace_of(pod),
        "annotations": {**(described.get("annotations") or {}), POD_CLAIM: name},
        "ownerReferences": [owner_reference(pod, PODS)],
    }
    if described.get("labels"):
        metadata["labels"] = dict(described["labels"])
    return {
        "apiVersion": RESOURCECLAIMS.api_version,
        "kind": RESOURCECLAIMS.kind,
        "metadata": metadata,
        "spec": spec.get("spec") or {},
    }


def users_left(claim: Object, pods: dict[str, Object]) -> list[Object]:
    """status.reservedFor without pods (by name, of the claim's namespace) that are gone or done."""
    kept = []
    for user in (claim.get("status") or {}).get("reservedFor") or ():
        if user.get("apiGroup") or user.get("resource") != "pods":
            kept.append(user)  # others look after theirs themselves
            continue
        pod = pods.get(user["name"])
        if pod is not None and uid_of(pod) == user.get("uid") and not is_done(pod):
            kept.append(user)
    return kept


@dataclass(frozen=True)
class ClaimMaker:
    """Makes the claims of one pod at a time, and reserves them for a pod that was bound without the scheduler."""

    pods: Informer
    claims: Informer
    templates: Informer
    client: Client
    recorder: EventRecorder
    made: dict[str, str] = field(default_factory=dict)
    """`pod uid/name` → the claim made for it, until the cache shows it."""

    async def reconcile(self, key: str) -> float | None:
        """One pod."""
        pod = self.pods.get(key)
        if pod is None or is_deleting(pod) or is_done(pod):
            return None
        names = claim_names(pod)
        missing = [name for name, claim in names.items() if not claim]
        try:
            for name in missing:
                names[name] = await self._ensure(pod, name)
        except Conflict:
            raise
        except NavarchError as exc:
            if namespace_terminates(exc):
                return None
            self.recorder.warning(pod, "FailedResourceClaimCreation", f"PodResourceClaim {name}: {exc}")
            raise
        if missing:
            await self._write_names(pod, names)
        elif node_of(pod):
            for claim in names.values():
                await self._reserve(pod, f"{namespace_of(pod)}/{claim}")
        return None

    async def _ensure(self, pod: Object, name: str) -> str:
        for claim in controlled(self.claims, pod):
            if annotations_of(claim).get(POD_CLAIM) == name and not is_deleting(claim):
                return name_of(claim)
        memory = f"{uid_of(pod)}/{name}"
        if memory in self.made:
            return self.made[memory]
        entry = next(e for e in pod["spec"]["resourceClaims"] if e["name"] == name)
        template_name = entry.get("resourceClaimTemplateName") or ""
        template = self.templates.get(f"{namespace_of(pod)}/{template_name}")
        if template is None:
            raise NotFound(f'resource claim template "{template_name}": not found')
        wanted = make_claim(pod, name, template)
        try:
            made = await self.client.create(RESOURCECLAIMS, wanted)
        except NavarchError:
            metrics.CLAIM_CREATES.labels("failure", metrics.asks_as_admin(wanted)).inc()
            raise
        metrics.CLAIM_CREATES.labels("success", metrics.asks_as_admin(wanted)).inc()
        self.made[memory] = name_of(made)
        return name_of(made)

    async def _write_names(self, pod: Object, names: dict[str, str]) -> None:
        of_templates = {e["name"] for e in pod["spec"]["resourceClaims"] if e.get("resourceClaimTemplateName")}
        statuses = [{"name": n, "resourceClaimName": c} for n, c in names.items() if n in of_templates]
        applied = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
            "status": {"resourceClaimStatuses": statuses},
        }
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self.client.patch(
            PODS,
            name_of(pod),
            applied,
            namespace_of(pod),
            content_type=APPLY,
            subresource="status",
            query=query,
        )

    async def _reserve(self, pod: Object, key: str) -> None:
        claim = self.claims.get(key)
        status = (claim or {}).get("status") or {}
        if claim is None or not status.get("allocation"):
            return
        users = status.get("reservedFor") or []
        if any(user.get("uid") == uid_of(pod) for user in users):
            return
        user = {"resource": "pods", "name": name_of(pod), "uid": uid_of(pod)}
        changed = {**claim, "status": {**status, "reservedFor": [*users, user]}}
        await self.client.update(RESOURCECLAIMS, changed, subresource="status")

    def forget(self, pod: Object) -> None:
        """The pod is gone."""
        for name in claim_names(pod):
            self.made.pop(f"{uid_of(pod)}/{name}", None)


@dataclass(frozen=True)
class ClaimKeeper:
    """Frees one claim at a time of users that are gone, and of its devices when it has none."""

    claims: Informer
    pods: Informer
    client: Client

    async def reconcile(self, key: str) -> float | None:
        """One claim."""
        claim = self.claims.get(key)
        if claim is None:
            return None
        present = {name_of(pod): pod for pod in self.pods.list(namespace_of(claim))}
        users = (claim.get("status") or {}).get("reservedFor") or []
        left = users_left(claim, present)
        if len(left) < len(users):
            left = await self._confirmed(claim, left)
        protected = FINALIZER in (claim["metadata"].get("finalizers") or ())
        if len(left) < len(users):
            claim = await self._free(claim, left, deallocate=not left and protected)
        elif protected and is_deleting(claim) and not left:
            claim = await self._free(claim, left, deallocate=True)
        if not left:
            await self._drop(claim, present)
        return None

    async def _confirmed(self, claim: Object, left: list[Object]) -> list[Object]:
        """The cache of pods may be behind that of claims: the API server is asked before a user counts as gone."""
        kept = list(left)
        for user in (claim.get("status") or {}).get("reservedFor") or ():
            if user in left:
                continue
            try:
                pod = await self.client.get(PODS, user["name"], namespace_of(claim))
            except NotFound:
                continue
            if uid_of(pod) == user.get("uid") and not is_done(pod):
                kept.append(user)
        return kept

    async def _free(self, claim: Object, left: list[Object], *, deallocate: bool) -> Object:
        status = {k: v for k, v in (claim.get("status") or {}).items() if k != "reservedFor"}
        if left:
            status["reservedFor"] = left
        if deallocate:
            status.pop("allocation", None)
            status.pop("devices", None)
        if status != (claim.get("status") or {}):
            claim = await self.client.update(RESOURCECLAIMS, {**claim, "status": status}, subresource="status")
        if not deallocate:
            return claim
        metadata = {"uid": uid_of(claim), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}
        name, namespace = name_of(claim), namespace_of(claim)
        try:
            return await self.client.patch(
                RESOURCECLAIMS, name, {"metadata": metadata}, namespace, content_type=STRATEGIC
            )
        except NotFound:
            return claim

    async def _drop(self, claim: Object, present: dict[str, Object]) -> None:
        """A claim that was made for a pod that is done goes at once; the pod itself may stay for long."""
        owner = controller_of(claim)
        if owner is None or owner.get("kind") != "Pod" or owner.get("apiVersion") != "v1" or is_deleting(claim):
            return
        pod = present.get(owner["name"])
        if pod is None or (uid_of(pod) == owner["uid"] and not is_done(pod)):
            return
        try:
            await self.client.delete(RESOURCECLAIMS, name_of(claim), namespace_of(claim), uid=uid_of(claim))
        except NotFound:
            return


def build(env: Environment) -> list[Controller]:
    """The controller of ResourceClaims."""
    client, pods = env.client_for(ACCOUNT), env.informer(PODS)
    claims, templates = env.informer(RESOURCECLAIMS), env.informer(RESOURCECLAIMTEMPLATES)
    pods.add_index(CLAIM_INDEX, claim_keys)
    metrics.RESOURCE_CLAIMS.claims = claims.list
    maker = ClaimMaker(pods, claims, templates, client, env.recorder("resource_claim", ACCOUNT))
    workers = env.options.concurrent("resourceclaim")
    making = Controller("resource_claim", maker.reconcile, workers=workers)
    keeping = Controller("resource_claim_release", ClaimKeeper(claims, pods, client).reconcile, workers=workers)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        if not pod["spec"].get("resourceClaims") and not special_claim(pod):
            return
        if new is None:
            maker.forget(pod)
        else:
            making.enqueue(key_of(new))
        if new is None or is_done(new):
            for key in claim_keys(pod):
                keeping.enqueue(key)
            for claim in controlled(claims, pod):
                keeping.enqueue(key_of(claim))

    def claim_changed(old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        keeping.enqueue(key_of(claim))
        for pod in pods.by_index(CLAIM_INDEX, key_of(claim)):
            making.enqueue(key_of(pod))

    def template_changed(old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            for pod in pods.list(namespace_of(new)):
                if any(
                    e.get("resourceClaimTemplateName") == name_of(new) for e in pod["spec"].get("resourceClaims") or ()
                ):
                    making.enqueue(key_of(pod))

    pods.on_change(pod_changed)
    claims.on_change(claim_changed)
    templates.on_change(template_changed)
    return [making, keeping]
