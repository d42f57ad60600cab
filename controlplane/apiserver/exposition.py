"""/metrics: what a server counts, what it holds, and what the process costs.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.apiserver.audit.auditor import Auditor
from controlplane.apiserver.flowcontrol.controller import FlowControl
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.storage.measured import MeasuredStorage

_OF_FLOW = ("priority_level", "flow_schema")


@dataclass
class Exposition:
    """The metrics of one server."""

    api: Api
    storage: MeasuredStorage
    flow: FlowControl | None
    auditor: Auditor | None

    def render(self) -> bytes:
        """As text, with those of the process."""
        return generate_latest(REGISTRY) + generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        yield from self.api.metrics.collect()
        yield from self.storage.collect()
        yield from self._objects()
        if self.flow is not None:
            yield from _of_flow_control(self.flow)
        if self.auditor is not None:
            told = "Counter of audit events generated and sent to the audit backend."
            yield CounterMetricFamily("apiserver_audit_event", told, value=self.auditor.events)
            if self.auditor.webhook is not None:
                told = "Counter of audit events that could not be sent."
                yield CounterMetricFamily("apiserver_audit_error", told, value=self.auditor.webhook.dropped)

    def _objects(self) -> Iterator[Metric]:
        counts = GaugeMetricFamily(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind.",
            labels=("resource",),
        )
        sizes = GaugeMetricFamily(
            "apiserver_resource_size_estimate_bytes",
            "Estimated size of stored objects in database.",
            labels=("group", "resource"),
        )
        seen = set()
        for served in self.api.resources.all():
            if served.prefix in seen:
                continue
            seen.add(served.prefix)
            collection = self.api.objects.collection(served.prefix)
            counts.add_metric((served.stored.group_resource,), len(collection.records))
            sizes.add_metric((served.stored.group, served.stored.plural), collection.size_bytes)
        yield counts
        yield sizes


def _of_flow_control(flow: FlowControl) -> Iterator[Metric]:
    flow.schemas()
    prefix = "apiserver_flowcontrol_"
    dispatched = CounterMetricFamily(prefix + "dispatched_requests", "Number of requests executed.", labels=_OF_FLOW)
    for names, count in flow.tally.dispatches.items():
        dispatched.add_metric(names, count)
    yield dispatched
    rejected = CounterMetricFamily(
        prefix + "rejected_requests", "Number of requests rejected.", labels=(*_OF_FLOW, "reason")
    )
    for reasons, count in flow.tally.rejections.items():
        rejected.add_metric(reasons, count)
    yield rejected
    told = "Length of time a request spent waiting in its queue."
    yield flow.tally.waits.family(prefix + "request_wait_duration_seconds", told, (*_OF_FLOW, "execute"))
    gauges = {
        "current_executing_requests": "Number of requests in execution.",
        "current_executing_seats": "Concurrency (number of seats) occupied by the currently executing requests.",
        "current_inqueue_requests": "Number of requests currently pending in queues.",
        "current_inqueue_seats": "Number of seats currently pending in queues.",
        "current_limit_seats": "Current derived number of execution seats available to each priority level.",
        "nominal_limit_seats": "Nominal number of execution seats configured for each priority level.",
        "lower_limit_seats": "Configured lower bound on number of execution seats available.",
        "upper_limit_seats": "Configured upper bound on number of execution seats available.",
    }
    families = {
        name: GaugeMetricFamily(prefix + name, told, labels=("priority_level",)) for name, told in gauges.items()
    }
    for name, level in flow.levels.items():
        bounds = flow.bounds.get(name)
        values = {
            "current_executing_requests": level.executing,
            "current_executing_seats": level.seats,
            "current_inqueue_requests": level.waiting,
            "current_inqueue_seats": level.waiting_seats,
            "current_limit_seats": level.limit,
            "nominal_limit_seats": level.nominal,
            "lower_limit_seats": bounds.lower if bounds is not None else 0,
            "upper_limit_seats": bounds.upper if bounds is not None else 0,
        }
        for metric, value in values.items():
            families[metric].add_metric((name,), value)
    yield from families.values()
