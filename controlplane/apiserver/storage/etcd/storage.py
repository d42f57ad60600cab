"""Storage on etcd.

A write whose answer is lost is settled by asking again: every write is conditional on a revision, so sending it twice
does no harm, and the value that is found afterwards tells whether it took effect.  Of a deletion nothing is found:
unless it is certain, its outcome is unknown.

Source: etcd API (KV, Watch, Lease); k8s.io/apiserver/pkg/storage/etcd3.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from controlplane.apiserver.storage.contract import Batch, Change, Stored
from controlplane.apiserver.storage.etcd import etcd_pb2 as pb
from controlplane.apiserver.storage.etcd.endpoints import TLS, Endpoints, unavailable
from controlplane.apiserver.storage.etcd.stubs import Stub, WatchCall
from machinery.errors import RevisionCompacted, RevisionConflict, StorageUnavailable, TooLarge
from machinery.log import get_logger
from machinery.rpc.status import Code, RpcError

log = get_logger(__name__)

_LEASE_SHARE_SECONDS = 60  # keys written within this time share a lease, and live at most that much longer
_WRITE_SECONDS = 10.0  # how long a write is tried before its outcome is given up as unknown
_ATTEMPT_SECONDS = 3.0  # how long a member may take to write when there are others
_CHECK_SECONDS = 2.0  # how long one may take to tell its version: upstream's etcd-healthcheck-timeout
_CONNECT_SECONDS = 1.5  # how long a watch waits for a connection to a member
_STALL_SECONDS = 1.0  # a watch this long behind what is known to be written is opened anew on another member
_MOST_PATIENCE_SECONDS = 60.0
_PAGE = 2_000  # keys of one range request of a long list: keeps messages at some MB


class EtcdStorage:
    """Fulfils the storage contract on an etcd cluster. Make and use it inside one event loop."""

    def __init__(self, urls: Sequence[str], tls: TLS | None = None) -> None:
        self._endpoints = Endpoints(urls, tls)
        self.progress_requests = False  # known once `check` has been told etcd's version
        self._known = 0  # the highest revision any answer has told
        self._leases: dict[int, tuple[int, float]] = {}  # by TTL asked for: id, and until when it is shared
        self._lease_lock = asyncio.Lock()

    async def check(self) -> str:
        """The version of a member that answers. Raises StorageUnavailable."""
        response = await self._endpoints.call(lambda stub, _: stub.status(pb.StatusRequest(), timeout=_CHECK_SECONDS))
        self.progress_requests = _answers_progress(response.version)
        return str(response.version)

    def _learn(self, header: pb.ResponseHeader) -> int:
        revision = int(header.revision)
        if revision > self._known:
            self._known = revision
        return revision

    async def get(self, key: str) -> tuple[Stored | None, int]:
        """See the contract."""
        response = await self._range(pb.RangeRequest(key=key.encode()))
        return (_stored(response.kvs[0]) if response.kvs else None), int(response.header.revision)

    async def _range(self, request: pb.RangeRequest, *, factor: float = 1) -> pb.RangeResponse:
        try:
            response = await self._endpoints.call(lambda stub, timeout: stub.range(request, timeout=timeout * factor))
        except RpcError as exc:
            if exc.code is Code.OUT_OF_RANGE:
                raise RevisionCompacted(exc.details) from exc
            raise unavailable(self._endpoints.urls, exc) from exc
        self._learn(response.header)
        return response

    async def list(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> tuple[Sequence[Stored], int, bool]:
        """See the contract. Without a limit it is read in pages, all of one revision."""
        found: list[Stored] = []
        begin = max(start, prefix).encode()
        while True:
            page = min(_PAGE, limit - len(found)) if limit else _PAGE
            response = await self._range(
                pb.RangeRequest(key=begin, range_end=_range_end(prefix), limit=page, revision=revision), factor=4
            )
            revision = revision or int(response.header.revision)
            found.extend(_stored(kv) for kv in response.kvs)
            if not response.more or (limit and len(found) >= limit):
                return found, revision, bool(response.more)
            begin = response.kvs[-1].key + b"\0"

    async def put(self, key: str, value: bytes, *, expected: int, ttl_seconds: int = 0) -> int:
        """See the contract."""
        name = key.encode()
        for _ in range(2):
            lease = await self._lease_for(ttl_seconds) if ttl_seconds else 0
            operation = pb.RequestOp(request_put=pb.PutRequest(key=name, value=value, lease=lease))
            try:
                return await self._write(name, operation, expected, value)
            except _LeaseGone:
                self._leases.pop(ttl_seconds, None)
        raise StorageUnavailable(f"etcd ({', '.join(self._endpoints.urls)}): a lease just granted is not known")

    async def delete(self, key: str, *, expected: int) -> int:
        """See the contract."""
        name = key.encode()
        operation = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=name))
        return await self._write(name, operation, expected, None)

    async def _write(self, key: bytes, operation: pb.RequestOp, expected: int, value: bytes | None) -> int:
        request = pb.TxnRequest(
            compare=[pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=expected)],
            success=[operation],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=key))],
        )
        deadline = time.monotonic() + _WRITE_SECONDS
        unsure = False  # whether an earlier attempt may have taken effect
        while True:
            stub = self._endpoints.stub
            try:
                response = await stub.txn(request, timeout=max(_ATTEMPT_SECONDS, self._endpoints.attempt_seconds))
            except RpcError as exc:
                if exc.code is Code.NOT_FOUND:
                    raise _LeaseGone from exc
                if exc.code is Code.INVALID_ARGUMENT and "too large" in exc.details:
                    raise TooLarge(exc.details) from exc
                if exc.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    raise unavailable(self._endpoints.urls, exc) from exc
                unsure = unsure or exc.sent
                self._endpoints.leave(stub)
                if time.monotonic() > deadline:
                    raise unavailable(self._endpoints.urls, exc) from exc
                await asyncio.sleep(0.05)
                continue
            revision = self._learn(response.header)
            if response.succeeded:
                return revision
            found = response.responses[0].response_range.kvs
            if unsure:
                # A key that is gone tells nothing: after an earlier attempt that failed, others may have written and
                # deleted it.
                if value is not None and found and found[0].value == value and found[0].mod_revision > expected:
                    return int(found[0].mod_revision)
                if not found or found[0].mod_revision != expected:
                    raise StorageUnavailable(f"the outcome of a write of {key.decode()} is unknown")
            raise RevisionConflict(key.decode())

    async def _lease_for(self, ttl_seconds: int) -> int:
        async with self._lease_lock:
            lease, until = self._leases.get(ttl_seconds, (0, 0.0))
            now = time.monotonic()
            if now >= until:
                shared = min(_LEASE_SHARE_SECONDS, max(1, ttl_seconds // 20))
                request = pb.LeaseGrantRequest(TTL=ttl_seconds + shared)
                response = await self._endpoints.call(lambda stub, timeout: stub.lease_grant(request, timeout=timeout))
                lease = int(response.ID)
                self._leases[ttl_seconds] = (lease, now + shared)
            return lease

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[Batch]:
        """See the contract. When the stream breaks or stalls, it is resumed on another member after the last event."""
        progress = _Progress(after)
        pause = 0.0
        while True:
            stub = self._endpoints.stub
            start = progress.reached
            try:
                async with contextlib.aclosing(self._stream(stub, prefix, progress)) as stream:
                    async for batch in stream:
                        yield batch
            except RpcError as exc:
                log.info(
                    "watch of etcd broken; resuming", server=self._endpoints.url, error=exc.details or exc.code.name
                )
            self._endpoints.leave(stub)
            pause = 0.0 if progress.reached > start else min(1.0, pause + 0.1)
            await asyncio.sleep(pause)

    async def _stream(self, stub: Stub, prefix: str, progress: _Progress) -> AsyncGenerator[Batch]:
        create = pb.WatchCreateRequest(
            key=prefix.encode(),
            range_end=_range_end(prefix),
            start_revision=progress.reached + 1,
            progress_notify=True,
        )
        call = await stub.watch(create, timeout=_CONNECT_SECONDS)
        guard = asyncio.create_task(self._guard(call, progress))
        try:
            while True:
                response = await call.read()
                if response is None or (response.canceled and not response.compact_revision):
                    return
                if response.compact_revision:
                    raise RevisionCompacted(oldest_revision=int(response.compact_revision))
                if response.created:
                    continue
                batch = _batch(response, progress.reached)
                progress.reached = batch.revision
                progress.patience = _STALL_SECONDS
                self._known = max(self._known, batch.revision)
                yield batch
        finally:
            guard.cancel()
            call.cancel()

    async def _guard(self, call: WatchCall, progress: _Progress) -> None:
        """End a stream that does not deliver what is known to have been written.

        A revision that belongs to a key outside the prefix looks the same; patience grows until something arrives.
        """
        while True:
            goal = self._known
            await asyncio.sleep(progress.patience)
            if progress.reached < goal:
                progress.patience = min(_MOST_PATIENCE_SECONDS, progress.patience * 2)
                call.cancel()
                return

    async def compact(self, revision: int) -> None:
        """See the contract."""
        request = pb.CompactionRequest(revision=revision)
        try:
            await self._endpoints.call(lambda stub, timeout: stub.compact(request, timeout=timeout * 4))
        except RpcError as exc:
            if exc.code is not Code.OUT_OF_RANGE:  # another server has compacted already
                raise unavailable(self._endpoints.urls, exc) from exc

    async def close(self) -> None:
        """See the contract."""
        await self._endpoints.close()


@dataclass(slots=True)
class _Progress:
    """How far a watch has come, and what its guard thinks of it."""

    reached: int  # every change up to this revision has been delivered
    patience: float = _STALL_SECONDS


class _LeaseGone(Exception):
    """The lease of a put is not there any more."""


def _answers_progress(version: str) -> bool:
    """Whether this etcd answers requests for a watch's progress reliably.

    Source: k8s.io/apiserver/pkg/storage/feature (RequestWatchProgress).
    """
    try:
        major, minor, patch = (int(part) for part in version.split("-")[0].split("."))
    except ValueError:
        return False
    return (major, minor, patch) >= (3, 5, 8) or ((major, minor) == (3, 4) and patch >= 25)


def _stored(kv: pb.KeyValue) -> Stored:
    return Stored(kv.key.decode(), kv.value, kv.mod_revision)


def _range_end(prefix: str) -> bytes:
    """The first key after all those with the prefix."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _batch(response: pb.WatchResponse, reached: int) -> Batch:
    """The events as changes. Without events the header tells progress; with them it may be ahead of what was sent."""
    if not response.events:
        return Batch((), max(reached, int(response.header.revision)))
    changes = []
    for event in response.events:
        kv = event.kv
        revision = kv.mod_revision
        if event.type == pb.Event.DELETE:
            changes.append(Change(kv.key.decode(), None, revision))
        else:
            changes.append(Change(kv.key.decode(), kv.value, revision, kv.create_revision == revision))
    return Batch(changes, changes[-1].revision)
