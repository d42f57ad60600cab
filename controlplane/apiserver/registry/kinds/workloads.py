"""What keeps pods running: Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers."""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.workloads import (
    TEMPLATE_GENERATION,
    daemon_template_generation,
    default_daemon_set,
    default_deployment,
    default_replica_set,
    default_replication_controller,
    default_stateful_set,
)
from controlplane.apiserver.registry.objects import child, number, sub
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import workloads as rules
from controlplane.apiserver.registry.warnings import others as warnings
from machinery.api import catalogue, names
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

_DAEMONS = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}
_REPLICAS = {"status.replicas": lambda obj: str(number(obj, "status", "replicas"))}


def _create_daemon_set(daemon_set: Object, context: Context) -> None:
    prepare_create(status=_DAEMONS, generation=True)(daemon_set, context)
    _keep_template_generation(daemon_set, daemon_template_generation(daemon_set) or 1)


def _update_daemon_set(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True, counts=("spec",))(new, old, context)
    generation = daemon_template_generation(old)
    if sub(new, "spec").get("template") != sub(old, "spec").get("template"):
        generation += 1
    _keep_template_generation(new, generation)


def _daemon_set_status(new: Object, old: Object, context: Context) -> None:
    prepare_status_update()(new, old, context)
    _keep_template_generation(new, daemon_template_generation(old))


def _keep_template_generation(daemon_set: Object, generation: int) -> None:
    """Clients don't write this annotation: it stands for a field that upstream has in its internal type only."""
    if generation:
        child(child(daemon_set, "metadata"), "annotations")[TEMPLATE_GENERATION] = str(generation)


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.DEPLOYMENTS: Strategy(
        default=default_deployment,
        warnings=warnings.named_workload,
        validate=rules.deployment,
        validate_update=rules.deployment_update,
        validate_status_update=rules.deployment_status,
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",), metadata_counts=("annotations",)),
        prepare_status_update=prepare_status_update(metadata=("labels",)),
        has_status=True,
    ),
    catalogue.REPLICASETS: Strategy(
        default=default_replica_set,
        warnings=warnings.named_workload,
        validate=rules.replica_set,
        validate_update=rules.replica_set_update,
        validate_status_update=rules.replicas_status,
        prepare_create=prepare_create(status={"replicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields=_REPLICAS,
    ),
    catalogue.REPLICATIONCONTROLLERS: Strategy(
        default=default_replication_controller,
        warnings=warnings.named_workload,
        validate=rules.replication_controller,
        validate_update=lambda new, old: rules.replication_controller(new),
        validate_status_update=rules.replicas_status,
        prepare_create=prepare_create(status={"replicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields=_REPLICAS,
    ),
    catalogue.DAEMONSETS: Strategy(
        default=default_daemon_set,
        warnings=warnings.workload,
        validate=rules.daemon_set,
        validate_update=rules.daemon_set_update,
        validate_status_update=rules.daemon_set_status,
        prepare_create=_create_daemon_set,
        prepare_update=_update_daemon_set,
        prepare_status_update=_daemon_set_status,
        hidden_annotation=TEMPLATE_GENERATION,
        has_status=True,
    ),
    catalogue.STATEFULSETS: Strategy(
        default=default_stateful_set,
        warnings=warnings.stateful_set,
        validate=rules.stateful_set,
        validate_update=rules.stateful_set_update,
        validate_status_update=rules.stateful_set_status,
        validate_name=names.dns1123_label,
        prepare_create=prepare_create(status={"replicas": 0, "availableReplicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.CONTROLLERREVISIONS: Strategy(
        validate=rules.controller_revision,
        validate_update=rules.controller_revision_update,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
    ),
}
