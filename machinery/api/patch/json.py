"""JSON patch (RFC 6902), as lenient and as strict as the library that upstream uses.

Source: RFC 6902; gopkg.in/evanphx/json-patch.v4; k8s.io/apiserver/pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

import re
from typing import Any, Final

from machinery.api.patch import errors
from machinery.api.schema_decode import go_value
from machinery.errors import BadRequest, TooLarge

MAX_OPERATIONS: Final = 10_000
_MEMBERS: Final = ("op", "from", "path", "value")
_INDEX = re.compile(r"[+-]?[0-9]{1,18}")


class _NoApplyError(Exception):
    """An operation can't be carried out; upstream's answer does not say which."""


def apply(doc: Any, operations: Any) -> Any:
    """The document after all operations, in their order.

    Raises:
        BadRequest: this is no list of operations.
        TooLarge: there are too many.
        Invalid: one of them does not apply.
    """
    checked = _checked(operations)
    if not all(isinstance(operation.get("path"), str) for operation in checked):
        raise errors.rejected()
    work = _Document(doc)
    try:
        for operation in checked:
            work.carry_out(operation)
    except _NoApplyError:
        raise errors.rejected() from None
    return work.root


def strict_errors(operations: list[Any]) -> list[str]:
    """`json patch unknown field "[1].extra"` for members that operations don't have; `apply` refuses what is none."""
    return [
        f'json patch unknown field "[{i}].{name}"'
        for i, operation in enumerate(operations)
        if isinstance(operation, dict)
        for name in operation
        if name not in _MEMBERS
    ]


def _checked(operations: Any) -> list[dict[str, Any]]:
    wrong = ""
    if operations is None:
        return []
    if not isinstance(operations, list):
        wrong = f"{_word(operations)} into Go value of type []handlers.jsonPatchOp"
        operations = []
    operations = [{} if operation is None else operation for operation in operations]
    for operation in operations:
        if not isinstance(operation, dict):
            wrong = wrong or f"{_word(operation)} into Go value of type handlers.jsonPatchOp"
            continue
        for name in ("op", "from", "path"):
            value = operation.get(name)
            if value is not None and not isinstance(value, str):
                wrong = wrong or f"{_word(value)} into Go struct field jsonPatchOp.{name} of type string"
    if wrong:
        raise BadRequest(f"error decoding patch: json: cannot unmarshal {wrong}")
    if len(operations) > MAX_OPERATIONS:
        raise TooLarge(
            "Request entity too large: The allowed maximum operations in a JSON patch is "
            f"{MAX_OPERATIONS}, got {len(operations)}"
        )
    checked: list[dict[str, Any]] = operations
    return checked


def _word(value: Any) -> str:
    return go_value(value).split(" ", maxsplit=1)[0]


class _Document:
    """A document of which only the containers on the way to a change are copied, once each."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._owned: dict[int, Any] = {}  # identity to container: those made here, kept alive

    def carry_out(self, operation: dict[str, Any]) -> None:
        path = operation["path"]
        match operation.get("op"):
            case "add":
                self.add(path, operation.get("value"))
            case "remove":
                self.remove(path)
            case "replace":
                self.replace(path, operation.get("value"))
            case "move":
                self.add(path, self.remove(_source(operation)))
            case "copy":
                container, key = self.parent(_source(operation), own=False)
                self.add(path, _get(container, key, missing=None))
            case "test":
                container, key = self.parent(path, own=False)
                if not _same(_get(container, key, missing=None), operation.get("value")):
                    raise _NoApplyError
            case _:
                raise _NoApplyError

    def parent(self, path: str, *, own: bool) -> tuple[Any, str]:
        """The container of what `path` names, and its key there."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
        if len(parts) < 2:
            raise _NoApplyError
        if own:
            self.root = self._own(self.root)
        at = self.root
        for part in parts[1:-1]:
            inner = _get(at, part, missing=None)
            if own and isinstance(inner, (dict, list)):
                inner = self._own(inner)
                at[_place(at, part) if isinstance(at, list) else part] = inner
            at = inner
        if not isinstance(at, (dict, list)):
            raise _NoApplyError
        return at, parts[-1]

    def _own(self, container: Any) -> Any:
        if id(container) in self._owned or not isinstance(container, (dict, list)):
            return container
        copied = container.copy()
        self._owned[id(copied)] = copied
        return copied

    def add(self, path: str, value: Any) -> None:
        container, key = self.parent(path, own=True)
        if isinstance(container, dict):
            container[key] = value
        elif key == "-":
            container.append(value)
        else:
            container.insert(_place(container, key, room=1), value)

    def remove(self, path: str) -> Any:
        container, key = self.parent(path, own=True)
        if isinstance(container, list):
            return container.pop(_place(container, key))
        if key not in container:
            raise _NoApplyError
        return container.pop(key)

    def replace(self, path: str, value: Any) -> None:
        container, key = self.parent(path, own=True)
        # A member that is not there is added: so does upstream, against the RFC.
        container[_place(container, key) if isinstance(container, list) else key] = value


def _source(operation: dict[str, Any]) -> str:
    source = operation.get("from")
    if not isinstance(source, str):
        raise _NoApplyError
    return source


def _get(container: Any, key: str, *, missing: Any) -> Any:
    if isinstance(container, dict):
        return container.get(key, missing)
    if isinstance(container, list):
        return container[_place(container, key)]
    raise _NoApplyError


def _place(items: list[Any], key: str, *, room: int = 0) -> int:
    """The index that `key` means; negative ones count from the end."""
    size = len(items) + room
    if not _INDEX.fullmatch(key) or not -size <= int(key) < size:
        raise _NoApplyError
    return int(key) % size


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool))
