"""Which objects of a collection a list, watch or deletion is about.

Source: k8s.io/apimachinery/pkg/apis/meta/internalversion; k8s.io/apimachinery/pkg/runtime (field label conversion).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controlplane.apiserver.cacher.collection import Collection
from controlplane.apiserver.cacher.record import Event, Record
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.handlers.forms import viewed
from controlplane.apiserver.resources import Served
from machinery.api import fields, labels
from machinery.api.fielderror import show
from machinery.api.fields import FieldSelector
from machinery.api.labels import Selector
from machinery.errors import BadRequest

_METADATA = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Selection:
    """A namespace ("" is all), a name ("" is all) and a test of the rest."""

    namespace: str
    name: str
    matches: Callable[[Record], bool] | None
    """None: every object of the namespace (and name) is selected."""
    text: str = ""
    """Equal texts of one resource mean equal tests; "": what it selects is not to be remembered."""

    @property
    def plain(self) -> bool:
        """Whether it is everything in the namespace."""
        return self.matches is None and not self.name

    def of(self, collection: Collection, served: Served, start: str = "") -> list[Record]:
        """The objects of a collection that are selected, in the order of their keys, from the key `start` on."""
        if self.name:
            return [record for record in collection.list(self.namespace, start) if self.selects(record)]
        test = self.matches
        if test is None:
            return collection.list(self.namespace, start)
        # What a webhook converts can only be looked into once it has; those few are not worth remembering.
        if self.text and served.conversion is None:
            return collection.selected(self.text, served, test, self.namespace, start)
        return [record for record in collection.list(self.namespace, start) if test(record)]

    def selects(self, record: Record) -> bool:
        """Whether an object is selected."""
        return (
            (not self.namespace or record.namespace == self.namespace)
            and (not self.name or record.name == self.name)
            and (self.matches is None or self.matches(record))
        )

    def selects_event(self, event: Event) -> tuple[bool, bool]:
        """Whether the object of an event is selected now, and was before it."""
        record, test = event.record, self.matches
        if (self.namespace and record.namespace != self.namespace) or (self.name and record.name != self.name):
            return False, False
        if test is None:
            return True, event.previous is not None
        found = event.selected.get(self.text)
        if found is None:
            found = test(record), event.previous is not None and test(event.previous)
            event.selected[self.text] = found
        return found


def selection(exchange: Exchange, served: Served, namespace: str, name: str = "") -> Selection:
    """What a request selects. Raises BadRequest for selectors that can't be."""
    query = exchange.query
    try:
        by_label = labels.parse(query.get("labelSelector")) if "labelSelector" in query else labels.EVERYTHING
        by_field = fields.parse(query.get("fieldSelector")) if "fieldSelector" in query else fields.EVERYTHING
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    rest = check_fields(by_field, served)
    if not name:
        exact = by_field.exact("metadata.name")
        name = exact if exact is not None else ""
        if exact == "":
            return Selection(namespace, "", lambda record: False)
    text = f"{served.type.api_version}\0{query.get('labelSelector')}\0{query.get('fieldSelector')}"
    return Selection(namespace if served.type.namespaced else "", name, _test(by_label, rest, served), text)


def check_fields(selector: FieldSelector, served: Served) -> FieldSelector:
    """The selector, if the resource knows its fields. Raises BadRequest."""
    own = served.strategy.fields
    for field, _, _ in selector.requirements:
        if field in _METADATA or field in own:
            continue
        if own:
            raise BadRequest(f"field label not supported: {field}")
        told = ", ".join(show(f) for f in _METADATA)
        raise BadRequest(f"{show(field)} is not a known field selector: only {told}")
    return selector


def _test(by_label: Selector, by_field: FieldSelector, served: Served) -> Callable[[Record], bool] | None:
    label_matches = by_label.matches
    if not by_field:
        return (lambda record: label_matches(record.labels)) if by_label else None
    own = served.strategy.fields

    def value(record: Record, field: str) -> str:
        if field == "metadata.name":
            return record.name
        if field == "metadata.namespace":
            return record.namespace
        return own[field](viewed(record, served))

    requirements = by_field.requirements

    def matches(record: Record) -> bool:
        for field, operator, wanted in requirements:
            if (value(record, field) == wanted) != (operator == "="):
                return False
        return not by_label or label_matches(record.labels)

    return matches
