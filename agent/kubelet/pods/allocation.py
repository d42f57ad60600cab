"""What each pod has been promised of the node's resources: what it was admitted with, or resized to since.

The spec may ask for something else while a resize is not decided yet. The promises are kept in a file: after a restart
of the kubelet the spec alone would not tell.

Source: KEP-1287 (in-place update of pod resources), allocated and actuated resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from agent.kubelet.container.model import Container
from agent.kubelet.jsonfile import JsonFile
from agent.kubelet.pods import spec
from machinery.api import meta, quantity
from machinery.api.meta import Object

_FILE = "allocations.json"
RESIZABLE = ("cpu", "memory")

ByContainer = Mapping[str, Object]


def resizable(pod: Object) -> Iterator[Object]:
    """The containers of a pod whose resources may change while they run: apps and sidecars."""
    yield from (c for c in spec.init_containers(pod) if spec.is_sidecar(c))
    yield from spec.containers(pod)


def of_spec(pod: Object) -> dict[str, Object]:
    """What the spec asks for, by container."""
    return {container["name"]: container.get("resources") or {} for container in resizable(pod)}


def same(one: Object | None, other: Object | None) -> bool:
    """Whether two `resources` ask for the same of what can be resized; `1` and `1000m` are the same."""
    return _amounts(one) == _amounts(other)


def _amounts(resources: Object | None) -> dict[tuple[str, str], int]:
    return {
        (section, name): quantity.parse(amount).nanos
        for section in ("requests", "limits")
        for name, amount in ((resources or {}).get(section) or {}).items()
        if name in RESIZABLE
    }


def with_resources(pod: Object, promised: ByContainer) -> Object:
    """The pod with other resources; the same object if they are its own."""
    own = of_spec(pod)
    if all(promised.get(name, resources) == resources for name, resources in own.items()):
        return pod
    changed = dict(pod["spec"])
    for section in ("initContainers", "containers"):
        if changed.get(section):
            changed[section] = [
                {**c, "resources": promised[c["name"]]} if c["name"] in own and c["name"] in promised else c
                for c in changed[section]
            ]
    return {**pod, "spec": changed}


class Allocations:
    """Promises by pod. One for the whole kubelet."""

    def __init__(self, root_dir: str) -> None:
        self._file = JsonFile(Path(root_dir, _FILE))
        kept = self._file.read() or {}
        self._promised: dict[str, dict[str, Object]] = kept.get("pods") or {}
        # What a running container was last given, by its id, where it was resized: older runtimes don't tell.
        self.given: dict[str, Object] = kept.get("containers") or {}

    def _save(self) -> None:
        self._file.write({"pods": self._promised, "containers": self.given})

    def pod(self, pod: Object) -> Object:
        """The pod as it was promised."""
        promised = self._promised.get(meta.uid_of(pod))
        return with_resources(pod, promised) if promised is not None else pod

    def differs(self, pod: Object) -> bool:
        """Whether the spec asks for something else than was promised."""
        promised = self._promised.get(meta.uid_of(pod))
        return promised is not None and any(not same(promised.get(n), r) for n, r in of_spec(pod).items())

    def admit(self, pod: Object) -> None:
        """The pod is taken, with what its spec says, unless it was promised something before."""
        self._promised.setdefault(meta.uid_of(pod), of_spec(pod))

    def keep(self) -> None:
        """A resize is wanted: from now on the spec alone does not tell what was promised."""
        self._save()

    def resize(self, pod: Object, running: Iterable[Container]) -> None:
        """Promise what the spec says now; the containers that run still have what they had."""
        before = self._promised.get(meta.uid_of(pod), {})
        for container in running:
            self.given.setdefault(container.id, before.get(container.name, {}))
        self._promised[meta.uid_of(pod)] = of_spec(pod)
        self._save()

    def given_to(self, pod: Object, container: Container) -> Object:
        """What a running container has: what it was last given, or what it was started with."""
        known = self.given.get(container.id)
        return known if known is not None else self._promised.get(meta.uid_of(pod), {}).get(container.name, {})

    def give(self, container: Container, resources: Object) -> None:
        """A running container has been given these resources."""
        self.given[container.id] = resources
        self._save()

    def forget(self, uid: str, containers: Iterable[Container]) -> None:
        """The pod is gone."""
        self._promised.pop(uid, None)
        if [c for c in containers if self.given.pop(c.id, None) is not None]:
            self._save()
