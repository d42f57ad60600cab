"""What keeps pods running: Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import number
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_DAEMONS = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}
_REPLICAS = {"status.replicas": lambda obj: str(number(obj, "status", "replicas"))}

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.DEPLOYMENTS: Strategy(
        prepare_create=prepare_create(status={}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",), metadata_counts=("annotations",)),
        prepare_status_update=prepare_status_update(metadata=("labels",)),
        has_status=True,
    ),
    catalogue.REPLICASETS: Strategy(
        prepare_create=prepare_create(status={"replicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields=_REPLICAS,
    ),
    catalogue.REPLICATIONCONTROLLERS: Strategy(
        prepare_create=prepare_create(status={"replicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields=_REPLICAS,
    ),
    catalogue.DAEMONSETS: Strategy(
        prepare_create=prepare_create(status=_DAEMONS, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.STATEFULSETS: Strategy(
        prepare_create=prepare_create(status={"replicas": 0, "availableReplicas": 0}, generation=True),
        prepare_update=prepare_update(status=True, counts=("spec",)),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.CONTROLLERREVISIONS: Strategy(prepare_create=prepare_create(), prepare_update=prepare_update()),
}
