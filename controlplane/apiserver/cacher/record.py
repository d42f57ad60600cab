"""One object at one revision, in the forms that were asked for so far, and what happened to it."""

from __future__ import annotations

from typing import Any

import orjson

from controlplane.apiserver import envelope
from machinery.api.meta import Object


class Record:
    """An object as it was at `revision`. `value` is its final JSON in the stored version; never change `object`."""

    __slots__ = ("_object", "forms", "key", "name", "namespace", "revision", "value")

    def __init__(self, key: str, value: bytes, revision: int) -> None:
        """`key` is `namespace/name` or `name`; `value` has the resourceVersion in."""
        self.key = key
        self.namespace, _, self.name = key.rpartition("/")
        self.value = value
        self.revision = revision
        self._object: Object | None = None
        self.forms: dict[Any, Any] | None = None
        """Other representations (versions, tables, protobuf) by whatever key their maker uses; see `form`."""

    @property
    def object(self) -> Object:
        """The parsed object, shared: not to be changed. Parsed on first use."""
        parsed = self._object
        if parsed is None:
            parsed = self._object = orjson.loads(self.value)
        return parsed

    @property
    def labels(self) -> dict[str, str]:
        """metadata.labels, shared."""
        return self.object["metadata"].get("labels") or {}

    def at(self, revision: int) -> Record:
        """The same object told of at a later revision."""
        return Record(self.key, envelope.at_revision(self.value, revision), revision)


ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


class Event:
    """A change of one object. For a deletion `record` is the last state, at the deletion's revision."""

    __slots__ = ("_line", "_vanished", "kind", "previous", "record", "selected", "time")

    def __init__(self, kind: str, record: Record, previous: Record | None, time: float) -> None:
        self.kind = kind
        self.record = record
        self.previous = previous
        self.time = time  # of the loop's clock; how long the event has been held
        self._line: bytes | None = None
        self._vanished: Record | None = None
        self.selected: dict[str, tuple[bool, bool]] = {}
        """By the text of selectors: whether they select the object now, and did before; for watchers to share."""

    @property
    def line(self) -> bytes:
        """The event as a line of a JSON watch in the stored version, made once for all watchers."""
        line = self._line
        if line is None:
            line = self._line = envelope.watch_event(self.kind, self.record.value)
        return line

    @property
    def vanished(self) -> Record:
        """What a watcher is told whose selector does not select the object any more: the last state it saw."""
        if self._vanished is None:
            assert self.previous is not None
            self._vanished = self.previous.at(self.record.revision)
        return self._vanished
