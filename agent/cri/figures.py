"""How often the runtime was asked for what, how long that took and how often it failed.

Source: kubelet's kuberuntime/instrumented_services.go and metrics (runtime_operations_*).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

_TOTAL = Counter(
    "kubelet_runtime_operations_total", "Cumulative number of runtime operations by operation type.", ["operation_type"]
)
_SECONDS = Histogram(
    "kubelet_runtime_operations_duration_seconds",
    "Duration in seconds of runtime operations. Broken down by operation type.",
    ["operation_type"],
    buckets=tuple(0.005 * 2.5**exponent for exponent in range(14)),
)
_ERRORS = Counter(
    "kubelet_runtime_operations_errors_total",
    "Cumulative number of runtime operation errors by operation type.",
    ["operation_type"],
)
# Upstream's names where they aren't the call's in lower case.
_NAMES = {
    "RunPodSandbox": "run_podsandbox",
    "StopPodSandbox": "stop_podsandbox",
    "RemovePodSandbox": "remove_podsandbox",
    "PodSandboxStatus": "podsandbox_status",
    "ListPodSandbox": "list_podsandbox",
    "ListPodSandboxStats": "list_podsandbox_stats",
    "UpdateContainerResources": "update_container",
}


class Operation:
    """One kind of call."""

    def __init__(self, call: str) -> None:
        name = _NAMES.get(call) or re.sub(r"(?<!^)(?=[A-Z])", "_", call).lower()
        self._total, self._seconds, self._name = _TOTAL.labels(name), _SECONDS.labels(name), name

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is done here; an exception is a failure."""
        began = time.monotonic()
        self._total.inc()
        try:
            yield
        except Exception:
            _ERRORS.labels(self._name).inc()
            raise
        finally:
            self._seconds.observe(time.monotonic() - began)
