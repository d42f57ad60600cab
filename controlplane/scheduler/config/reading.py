"""Reading a configuration file strictly: unknown fields and wrong types are errors with their path.

Source: k8s.io/apimachinery/pkg/runtime/serializer (strict decoding); apis/config/scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from machinery.api.fielderror import FieldError
from machinery.errors import SettingsError
from machinery.settings import duration

Object = Mapping[str, Any]


@dataclass
class Errors:
    """What is wrong with a file, collected so that all of it is told at once."""

    found: list[FieldError] = field(default_factory=list)

    def add(self, *errors: FieldError) -> None:
        """Note errors."""
        self.found += errors

    def raise_if_any(self, where: str) -> None:
        """Raises SettingsError with all of them."""
        texts = list(dict.fromkeys(map(str, self.found)))
        if texts:
            raise SettingsError(f"{where}: {texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")


@dataclass(frozen=True)
class Reader:
    """One object of the file, at `path`."""

    given: Object
    path: str

    def known(self, names: Iterable[str]) -> None:
        """Raises SettingsError for the first field that is not one of these."""
        for name in sorted(self.given.keys() - set(names)):
            raise SettingsError(f'strict decoding error: unknown field "{self.at(name)}"')

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value: str = self._typed(name, str, default, "string")
        return value

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value: int = self._typed(name, int, default, "int")
        if isinstance(value, bool):
            self._wrong(name, "int")
        return value

    def real(self, name: str, default: float) -> float:
        """A number."""
        value = self.given.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(name, "float32")
        return float(value)

    def switch(self, name: str, default: bool) -> bool:
        """True or false."""
        value: bool = self._typed(name, bool, default, "bool")
        return value

    def seconds(self, name: str, default: float) -> float:
        """A Go duration."""
        value = self.given.get(name)
        if value is None:
            return default
        try:
            return duration(str(value))
        except ValueError as exc:
            raise SettingsError(f"{self.at(name)}: {exc}") from exc

    def child(self, name: str) -> Reader:
        """An object; empty if it is not there."""
        return Reader(self._typed(name, Mapping, {}, "struct"), self.at(name))

    def children(self, name: str) -> list[Reader]:
        """A list of objects."""
        made = []
        for index, each in enumerate(self.items(name)):
            path = f"{self.at(name)}[{index}]"
            if not isinstance(each, Mapping):
                raise SettingsError(f"json: cannot unmarshal {_kind(each)} into field {path} of type struct")
            made.append(Reader(each, path))
        return made

    def items(self, name: str) -> Sequence[Any]:
        """A list."""
        value: Sequence[Any] = self._typed(name, list, [], "slice")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        return [str(each) for each in self.items(name)]

    def _typed(self, name: str, kind: Any, default: Any, told: str) -> Any:
        value = self.given.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            self._wrong(name, told)
        return value

    def _wrong(self, name: str, told: str) -> None:
        raise SettingsError(
            f"json: cannot unmarshal {_kind(self.given[name])} into field {self.at(name)} of type {told}"
        )


def _kind(value: Any) -> str:
    kinds: Sequence[tuple[Any, str]] = ((bool, "bool"), (str, "string"), (int | float, "number"), (list, "array"))
    return next((told for kind, told in kinds if isinstance(value, kind)), "object")


Parse = Callable[[Reader, Errors], Any]
"""Reads one plugin's args, noting what is wrong."""
