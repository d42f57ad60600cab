"""Users' own plugins: pure functions over a snapshot of all nodes, found by entry point or by `package.module:name`.

    class NoFridays:
        name = "NoFridays"
        reason = "node(s) were closed on Fridays"

        def __init__(self, args: Mapping[str, Any]) -> None: ...
        def filter(self, pod: Pod, nodes: Nodes) -> NDArray[np.bool_]:       # True: the pod may go there
            return nodes.label("day") != "friday"
        def score(self, pod: Pod, nodes: Nodes) -> NDArray[np.int64]:        # 0 to 100, the higher the better
            return np.where(nodes.label("disk") == "ssd", 100, 0)

Either method may be left out. See docs/scheduler-plugins.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.scheduler.columns import Mask
from controlplane.scheduler.framework import MAX_SCORE, Plugin, Reject, Scope, Scores
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from controlplane.scheduler.terms import Term
from machinery.api import labels as label_selectors
from machinery.api.meta import Object
from machinery.errors import NavarchError, SettingsError

GROUP = "navarch.scheduler.plugins"
"""The entry point group: each entry is a plugin's name and its class, or a function that makes it from its args."""


class PluginFailed(NavarchError):
    """A user's plugin gave an answer that is none."""


class Nodes:
    """A snapshot of nodes, each at one place in every array. Nothing that it hands out may be changed.

    Amounts of cpu are in millis, of everything else in whole units (bytes, devices, pods).
    """

    def __init__(self, rows: Rows, numbers: NDArray[np.int64]) -> None:
        self._table = rows.table
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def names(self) -> NDArray[np.str_]:
        """Their names."""
        return np.array([self._table.name(row) for row in self._numbers.tolist()], np.str_)

    @property
    def objects(self) -> Sequence[Object]:
        """The Node objects."""
        return [self._table.node(row) for row in self._numbers.tolist()]

    def label(self, key: str) -> NDArray[np.str_]:
        """The values of a label; "" where a node has no such label."""
        return self._table.labels.texts(key)[self._table.labels.column(key)[self._numbers]]

    def matches(self, key: str, operator: str, values: Sequence[str] = ()) -> Mask:
        """Nodes that meet a node selector requirement (In, NotIn, Exists, DoesNotExist, Gt, Lt)."""
        return self._table.labels.matches(key, operator, values, self._numbers)

    def allocatable(self, resource: str) -> NDArray[np.int64]:
        """What the nodes have for pods."""
        return self._amounts(self._table.allocatable, resource)

    def requested(self, resource: str) -> NDArray[np.int64]:
        """What the pods on them ask for."""
        return self._amounts(self._table.requested, resource)

    def pods(self, label_selector: Mapping[str, Any], namespace: str) -> NDArray[np.int64]:
        """How many pods of a namespace with matching labels are on each."""
        selector = label_selectors.from_selector(label_selector)
        return self._table.terms.column(Term((selector,), frozenset((namespace,))))[self._numbers]

    def _amounts(self, amounts: NDArray[np.int64], resource: str) -> NDArray[np.int64]:
        column = self._table.names.column(resource)
        found: NDArray[np.int64] = (
            amounts[column, self._numbers] if column < len(amounts) else np.zeros(len(self), np.int64)
        )
        return found


class Adapted:
    """A user's plugin as the framework wants it. Its answers are asked for anew for every pod, unless it says in
    `scope` that they depend on less.
    """

    def __init__(self, plugin: Any, name: str) -> None:
        self.name = name
        self._plugin = plugin
        self.scope: Scope = getattr(plugin, "scope", Scope.CLUSTER)
        self.score_scope: Scope = self.scope
        self._reason = getattr(plugin, "reason", f"node(s) were refused by plugin {name}")

    def rejects(self, pod: Pod, rows: Rows) -> Iterable[Reject]:
        """Rows that the plugin's filter does not let through."""
        filter_ = getattr(self._plugin, "filter", None)
        if filter_ is None:
            return
        numbers, places = _existing(rows)
        allowed = self._asked(filter_, pod, Nodes(rows, numbers), "filter").astype(np.bool_)
        refused = rows.none()
        refused[places] = ~allowed
        yield Reject(refused, self._reason, final=bool(getattr(self._plugin, "final", False)))

    def score(self, pod: Pod, rows: Rows) -> Scores | None:
        """The plugin's scores."""
        score = getattr(self._plugin, "score", None)
        if score is None:
            return None
        numbers, places = _existing(rows)
        given = self._asked(score, pod, Nodes(rows, numbers), "score")
        if len(given) and (given.min() < 0 or given.max() > MAX_SCORE):
            wrong = given.min() if given.min() < 0 else given.max()
            raise PluginFailed(
                f'plugin "{self.name}" returns an invalid score {wrong}, it should in the range of [0, {MAX_SCORE}] '
                "after normalizing"
            )
        scores: Scores = np.zeros(len(rows), np.int64)
        scores[places] = given
        return scores

    def _asked(self, function: Callable[[Pod, Nodes], Any], pod: Pod, nodes: Nodes, what: str) -> NDArray[Any]:
        try:
            array = np.asarray(function(pod, nodes))
        except Exception as exc:  # somebody else's code: its defects are not the scheduler's
            raise PluginFailed(f'running {what} of plugin "{self.name}": {type(exc).__name__}: {exc}') from exc
        if array.shape != (len(nodes),):
            told = f"{what} gave an array of shape {array.shape}, not ({len(nodes)},)"
            raise PluginFailed(f'plugin "{self.name}": {told}')
        return array


def _existing(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(numbers of the rows that have nodes, their places in the view)."""
    places: NDArray[np.int64] = np.flatnonzero(rows.exists)
    numbers = places if isinstance(rows.index, slice) else rows.index[places]
    return numbers, places


Make = Callable[[Mapping[str, Any]], Any]


def make(name: str, args: Mapping[str, Any]) -> Plugin:
    """The plugin of this name: `args.plugin` names it as `package.module:name`, else the entry point does.

    Raises SettingsError when there is none, or it can't be made.
    """
    factory = _imported(name, str(args["plugin"])) if args.get("plugin") else _entry(name)
    try:
        plugin = factory(args)
    except (TypeError, ValueError, KeyError) as exc:
        raise SettingsError(f'initializing plugin "{name}": {exc}') from exc
    if not callable(getattr(plugin, "filter", None)) and not callable(getattr(plugin, "score", None)):
        raise SettingsError(f'plugin "{name}" has neither filter nor score')
    return Adapted(plugin, name)


def _entry(name: str) -> Make:
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise SettingsError(f'plugin "{name}" does not exist')
    try:
        factory: Make = found.load()
    except (ImportError, AttributeError) as exc:
        raise SettingsError(f'loading plugin "{name}" from {found.value}: {exc}') from exc
    return factory


def _imported(name: str, place: str) -> Make:
    module, _, attribute = place.partition(":")
    try:
        factory: Make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise SettingsError(f'loading plugin "{name}" from {place}: {exc}') from exc
    return factory
