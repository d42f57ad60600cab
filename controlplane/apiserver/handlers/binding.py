"""pods/binding: the scheduler says on which node a pod is to run.

Source: pkg/registry/core/pod/storage (BindingREST, setPodHostAndAnnotations).
"""

from __future__ import annotations

import orjson

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import decoding, encoding, metadata, negotiated, virtual
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found
from controlplane.apiserver.handlers.managers import updated_managers
from controlplane.apiserver.handlers.options import manager_of, write_options
from controlplane.apiserver.handlers.update import wrong_uid
from controlplane.apiserver.handlers.writer import key_of, options_object
from controlplane.apiserver.objects import Remove
from machinery.api import fielderror
from machinery.api.catalogue import PODS
from machinery.api.meta import Object, set_condition
from machinery.errors import BadRequest, Conflict, StatusError

SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def bind(api: Api, exchange: Exchange) -> Answer:
    """POST to pods/NAME/binding, or to bindings."""
    served, info = exchange.served, exchange.info
    form = negotiated.form(exchange, shapes=False)
    options = write_options(exchange.query, "CreateOptions")
    body = await exchange.body()
    expected = virtual.expected(served, exchange)
    obj = decoding.decode(exchange, body, expected, api.resources, options.validation)
    meta = obj["metadata"]
    name = info.name or meta.get("name") or ""
    if info.subresource and meta.get("name") != info.name:
        raise BadRequest("name in URL does not match name in Binding object")
    metadata.match_namespace(meta, info.namespace, namespaced=True)
    operation = Operation(
        "CREATE",
        served.type,
        info.subresource,
        info.namespace,
        name,
        exchange.user,
        obj,
        None,
        options_object("CreateOptions", options),
        options.dry_run,
        exchange.warnings,
        exchange.audit_annotations,
    )
    await api.admission.admit(operation)
    _check_target(obj)
    await api.admission.validate(operation)
    pods = api.resources.of(PODS)
    manager = manager_of(options.manager, exchange)

    async def change(current: Record | None) -> Object | Remove:
        if current is None:
            raise not_found(PODS, name)
        pod = current.object
        uid = obj["metadata"].get("uid")
        if uid and uid != pod["metadata"].get("uid"):
            raise wrong_uid(api, pods, info.namespace, name, uid, pod)
        bound = bound_pod(pod, obj, api.now())
        bound["metadata"]["managedFields"] = updated_managers(
            current.object, bound, manager, "binding", pods, api.now()
        )
        return bound

    await api.objects.change(pods.prefix, key_of(pods, info.namespace, name), change, dry_run=options.dry_run)
    return encoding.encode(orjson.dumps(SUCCESS), form, 201)


def _check_target(binding: Object) -> None:
    target = binding.get("target") or {}
    told = ""
    if target.get("kind", "") not in ("", "Node"):
        shown = ", ".join(fielderror.show(kind) for kind in ("Node", "<empty>"))
        told = f"target.kind: Unsupported value: {fielderror.show(target['kind'])}: supported values: {shown}"
    if not target.get("name"):
        required = "target.name: Required value"
        told = f"[{told}, {required}]" if told else required
    if told:
        raise StatusError.plain(told)


def bound_pod(pod: Object, binding: Object, now: str) -> Object:
    """The pod, assigned to the binding's node.

    Raises:
        Conflict: it is assigned already, being deleted, or not ready to be.
    """
    meta, given = pod["metadata"], binding["metadata"]
    name, spec = meta["name"], pod.get("spec") or {}
    if meta.get("deletionTimestamp"):
        raise _refused(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _refused(name, f"pod {name} is already assigned to node {fielderror.show(spec['nodeName'])}")
    if spec.get("schedulingGates"):
        raise _refused(name, f"pod {name} has non-empty .spec.schedulingGates")
    made: Object = orjson.loads(orjson.dumps(pod))
    made["spec"]["nodeName"] = (binding.get("target") or {})["name"]
    annotations = given.get("annotations")
    if annotations:
        made["metadata"].setdefault("annotations", {}).update(annotations)
    labels = given.get("labels")
    if labels:
        # Source: KEP-4742, "Expose node labels via downward API": topology labels come with the binding
        made["metadata"].setdefault("labels", {}).update(labels)
    conditions = made.setdefault("status", {}).setdefault("conditions", [])
    set_condition(conditions, {"type": "PodScheduled", "status": "True"}, now=now)
    for condition in conditions:
        if condition.get("type") == "PodScheduled":
            condition.setdefault("lastProbeTime", None)
            condition.pop("reason", None)
            condition.pop("message", None)
    return made


def _refused(name: str, told: str) -> Conflict:
    message = f"Operation cannot be fulfilled on pods/binding {fielderror.show(name)}: {told}"
    return Conflict(message, details={"name": name, "kind": "pods/binding"})
