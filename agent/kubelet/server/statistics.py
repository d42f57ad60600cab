"""/stats/summary, /metrics/resource, /metrics/cadvisor and /metrics/probes.

Source: Summary API; Resource metrics; cadvisor's metric names as far as common dashboards use them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from agent.cri.errors import CriError
from agent.kubelet.kit import Kit
from agent.kubelet.node import machine
from agent.kubelet.probes.manager import PROBES_TOTAL
from agent.kubelet.server.filesystem import filesystem, shown_time
from agent.kubelet.server.usage import Interface, PodUsage, Usage, UsageReader, node_interfaces, node_usage
from agent.kubelet.server.volumestats import VolumeStatistics
from machinery.api.meta import Object

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Samples = Iterable[tuple[Mapping[str, str], float]]
_RATE_SECONDS = 5.0  # two readings closer than this say nothing about a rate


class Statistics:
    """Answers questions about use. One for the whole kubelet."""

    def __init__(self, kit: Kit, volumes: VolumeStatistics) -> None:
        self._kit, self._volumes = kit, volumes
        self._reader = UsageReader(kit.cri)
        self._before: dict[str, tuple[float, int, int]] = {}  # key: (when, CPU ns, nanocores then)

    def routes(self) -> dict[str, _Handler]:
        """Handlers by path."""
        return {
            "/stats/summary": self._summary,
            "/stats/": self._summary,
            "/metrics/resource": self._resource,
            "/metrics/cadvisor": self._cadvisor,
            "/metrics/probes": self._probes,
        }

    # -- Summary API -------------------------------------------------------------------------------------------------

    async def _summary(self, request: web.Request) -> web.Response:
        try:
            pods = await self._reader.pods()
        except CriError as error:
            return web.Response(status=500, text=f"{error}\n")
        only = request.query.get("only_cpu_and_memory") == "true"
        volumes = {} if only else await self._volumes.of_pods(self._kit.active_pods())
        body = {"node": self._node(only), "pods": [self._pod(pod, only, volumes.get(pod.uid)) for pod in pods]}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    def _node(self, only: bool) -> Object:
        used = node_usage()
        shown: Object = {
            "nodeName": self._kit.node.name,
            "startTime": shown_time(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)),
            "cpu": self._cpu("node", used),
            "memory": _memory(used, self._kit.node.memory_bytes),
        }
        if not only:
            shown["network"] = _network(node_interfaces())
            shown["fs"] = filesystem(self._kit.root_dir)
            shown["runtime"] = {"imageFs": filesystem(self._kit.root_dir)}
            shown["rlimit"] = {"time": shown_time(time.time()), **_processes()}
        return shown

    def _pod(self, pod: PodUsage, only: bool, volumes: list[Object] | None) -> Object:
        total = pod.total
        started = self._started(pod.uid)
        shown: Object = {
            "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "startTime": shown_time(min(started.values(), default=total.at)),
            "containers": [],
            "cpu": self._cpu(pod.uid, total),
            "memory": _memory(total, None),
        }
        for container in pod.containers:
            entry: Object = {
                "name": container.name,
                "startTime": shown_time(started.get(container.id, container.usage.at)),
                "cpu": self._cpu(container.id, container.usage),
                "memory": _memory(container.usage, None),
            }
            if not only and container.disk_bytes is not None:
                own = {"time": shown_time(container.usage.at), "usedBytes": container.disk_bytes}
                entry["rootfs"] = {**filesystem(self._kit.root_dir), **own, "inodesUsed": container.disk_inodes or 0}
            shown["containers"].append(entry)
        if not only:
            if pod.interfaces:
                shown["network"] = _network(pod.interfaces)
            if pod.processes is not None:
                shown["process_stats"] = {"process_count": pod.processes}
            if volumes:
                shown["volume"] = volumes
        return shown

    def _started(self, uid: str) -> dict[str, float]:
        return {c.id: c.started_at / 1e9 for c in self._kit.view.pod(uid).containers if c.started_at}

    def _cpu(self, key: str, used: Usage) -> Object:
        shown: Object = {"time": shown_time(used.at)}
        if used.cpu_ns is None:
            return shown
        shown["usageCoreNanoSeconds"] = used.cpu_ns
        at, before, rate = self._before.get(key, (0.0, 0, -1))
        if used.at - at >= _RATE_SECONDS:
            rate = int((used.cpu_ns - before) / (used.at - at)) if at else rate
            self._before[key] = (used.at, used.cpu_ns, rate)
        if rate >= 0:
            shown["usageNanoCores"] = rate
        return shown

    # -- Prometheus --------------------------------------------------------------------------------------------------

    async def _resource(self, request: web.Request) -> web.Response:
        try:
            pods = await self._reader.pods()
            failed = 0
        except CriError:
            pods, failed = [], 1
        node = node_usage()
        lines: list[str] = []
        of_containers = [(pod, c, _labels(pod, container=c.name)) for pod in pods for c in pod.containers]
        _family(
            lines,
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
            [({}, (node.cpu_ns or 0) / 1e9)],
        )
        _family(
            lines,
            "node_memory_working_set_bytes",
            "Current working set of the node in bytes",
            "gauge",
            [({}, node.memory_working_set or 0)],
        )
        _family(
            lines,
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            [(labels, (c.usage.cpu_ns or 0) / 1e9) for _, c, labels in of_containers],
        )
        _family(
            lines,
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
            [(labels, c.usage.memory_working_set or 0) for _, c, labels in of_containers],
        )
        _family(
            lines,
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            "gauge",
            [(labels, self._started(pod.uid).get(c.id, 0.0)) for pod, c, labels in of_containers],
        )
        _family(
            lines,
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            [(_labels(pod), (pod.total.cpu_ns or 0) / 1e9) for pod in pods],
        )
        _family(
            lines,
            "pod_memory_working_set_bytes",
            "Current working set of the pod in bytes",
            "gauge",
            [(_labels(pod), pod.total.memory_working_set or 0) for pod in pods],
        )
        _family(
            lines,
            "resource_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            "gauge",
            [({}, failed)],
        )
        return _answer(lines)

    async def _cadvisor(self, request: web.Request) -> web.Response:
        try:
            pods = await self._reader.pods()
        except CriError as error:
            return web.Response(status=500, text=f"{error}\n")
        lines: list[str] = []
        found = [
            (c, _labels(pod, container=c.name) | {"id": c.id, "name": c.id}) for pod in pods for c in pod.containers
        ]
        _family(
            lines,
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed in seconds.",
            "counter",
            [(labels | {"cpu": "total"}, (c.usage.cpu_ns or 0) / 1e9) for c, labels in found],
        )
        _family(
            lines,
            "container_memory_usage_bytes",
            "Current memory usage in bytes.",
            "gauge",
            [(labels, c.usage.memory_usage or c.usage.memory_working_set or 0) for c, labels in found],
        )
        _family(
            lines,
            "container_memory_working_set_bytes",
            "Current working set in bytes.",
            "gauge",
            [(labels, c.usage.memory_working_set or 0) for c, labels in found],
        )
        _family(
            lines,
            "container_memory_rss",
            "Size of RSS in bytes.",
            "gauge",
            [(labels, c.usage.memory_rss) for c, labels in found if c.usage.memory_rss is not None],
        )
        _family(
            lines,
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container.",
            "gauge",
            [(labels, c.disk_bytes) for c, labels in found if c.disk_bytes is not None],
        )
        for name, text, value in (
            ("container_network_receive_bytes_total", "Cumulative count of bytes received", "rx_bytes"),
            ("container_network_receive_errors_total", "Cumulative count of errors while receiving", "rx_errors"),
            ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "tx_bytes"),
            ("container_network_transmit_errors_total", "Cumulative count of errors while transmitting", "tx_errors"),
        ):
            _family(
                lines,
                name,
                text,
                "counter",
                [(_labels(pod) | {"interface": i.name}, getattr(i, value)) for pod in pods for i in pod.interfaces],
            )
        _family(
            lines, "machine_cpu_cores", "Number of logical CPU cores.", "gauge", [({}, machine.read_machine().cpus)]
        )
        _family(
            lines,
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            "gauge",
            [({}, self._kit.node.memory_bytes)],
        )
        return _answer(lines)

    async def _probes(self, request: web.Request) -> web.Response:
        lines: list[str] = []
        samples = [(s.labels, s.value) for m in PROBES_TOTAL.collect() for s in m.samples if s.name.endswith("_total")]
        _family(
            lines,
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            "counter",
            samples,
        )
        return _answer(lines)


def _labels(pod: PodUsage, *, container: str = "") -> dict[str, str]:
    found = {"namespace": pod.namespace, "pod": pod.name}
    return {"container": container, **found} if container else found


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(lines: list[str], name: str, text: str, kind: str, samples: _Samples) -> None:
    lines.append(f"# HELP {name} [STABLE] {text}")
    lines.append(f"# TYPE {name} {kind}")
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
        lines.append(f"{name}{{{shown}}} {value}" if shown else f"{name} {value}")


def _answer(lines: list[str]) -> web.Response:
    return web.Response(body=("\n".join(lines) + "\n").encode(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _memory(used: Usage, total: int | None) -> Object:
    shown: Object = {"time": shown_time(used.at)}
    if total is not None and used.memory_working_set is not None:
        shown["availableBytes"] = max(0, total - used.memory_working_set)
    for name, value in (
        ("usageBytes", used.memory_usage),
        ("workingSetBytes", used.memory_working_set),
        ("rssBytes", used.memory_rss),
        ("pageFaults", used.page_faults),
        ("majorPageFaults", used.major_page_faults),
    ):
        if value is not None:
            shown[name] = value
    return shown


def _network(interfaces: list[Interface]) -> Object:
    entries = [
        {"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors}
        for i in interfaces
    ]
    return {"time": shown_time(time.time()), **(entries[0] if entries else {"name": ""}), "interfaces": entries}


def _processes() -> Object:
    with open("/proc/loadavg", encoding="ascii") as file:
        running = int(file.read().split()[3].partition("/")[2])
    return {"maxpid": machine.read_machine().max_pids, "curproc": running}
