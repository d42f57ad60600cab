"""Storage that counts how long it takes to answer.

Source: k8s.io/apiserver/pkg/storage/etcd3/metrics.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, Metric

from controlplane.apiserver.histogram import Histograms
from controlplane.apiserver.storage.contract import Batch, Storage, Stored
from controlplane.apiserver.storage.keys import resource_of
from machinery.errors import StorageUnavailable

_SECONDS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LABELS = ("operation", "group", "resource")

Labels = tuple[str, str, str]


class MeasuredStorage:
    """Fulfils the storage contract on another storage."""

    def __init__(self, inner: Storage, prefix: str) -> None:
        self.inner = inner
        self._prefix = prefix
        self._seconds = Histograms(_SECONDS)
        self._errors: Counter[Labels] = Counter()
        self._resources: dict[str, tuple[str, str]] = {}

    @property
    def progress_requests(self) -> bool:
        """See the contract."""
        return self.inner.progress_requests

    def _labels(self, operation: str, key: str) -> Labels:
        own = key[len(self._prefix) :]
        first = own[: own.find("/", own.find("/") + 1)]  # enough to tell the resource by
        found = self._resources.get(first)
        if found is None:
            found = resource_of(own) or ("", "")
            if len(self._resources) < 10_000:
                self._resources[first] = found
        return operation, *found

    def _observe(self, labels: Labels, begun: float) -> None:
        self._seconds.observe(labels, time.monotonic() - begun)

    async def get(self, key: str) -> tuple[Stored | None, int]:
        """See the contract."""
        labels, begun = self._labels("get", key), time.monotonic()
        try:
            return await self.inner.get(key)
        except StorageUnavailable:
            self._errors[labels] += 1
            raise
        finally:
            self._observe(labels, begun)

    async def list(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> tuple[Sequence[Stored], int, bool]:
        """See the contract."""
        labels, begun = self._labels("list", prefix), time.monotonic()
        try:
            return await self.inner.list(prefix, start=start, limit=limit, revision=revision)
        except StorageUnavailable:
            self._errors[labels] += 1
            raise
        finally:
            self._observe(labels, begun)

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> int:
        """See the contract."""
        labels, begun = self._labels("update" if expected else "create", key), time.monotonic()
        try:
            return await self.inner.put(key, value, expected=expected, ttl_seconds=ttl_seconds)
        except StorageUnavailable:
            self._errors[labels] += 1
            raise
        finally:
            self._observe(labels, begun)

    async def delete(self, key: str, *, expected: int) -> int:
        """See the contract."""
        labels, begun = self._labels("delete", key), time.monotonic()
        try:
            return await self.inner.delete(key, expected=expected)
        except StorageUnavailable:
            self._errors[labels] += 1
            raise
        finally:
            self._observe(labels, begun)

    def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        """See the contract."""
        return self.inner.watch(prefix, after=after)

    async def compact(self, revision: int) -> None:
        """See the contract."""
        await self.inner.compact(revision)

    async def close(self) -> None:
        """See the contract."""
        await self.inner.close()

    def collect(self) -> Iterator[Metric]:
        """What was counted, for prometheus_client."""
        told = "Etcd request latency in seconds for each operation and object type."
        yield self._seconds.family("etcd_request_duration_seconds", told, _LABELS)
        requests = CounterMetricFamily("etcd_requests", "Etcd request counts for each operation.", labels=_LABELS)
        for labels in self._seconds.labels():
            requests.add_metric(labels, self._seconds.count(labels))
        yield requests
        errors = CounterMetricFamily("etcd_request_errors", "Etcd failed request counts.", labels=_LABELS)
        for found, count in self._errors.items():
            errors.add_metric(found, count)
        yield errors
