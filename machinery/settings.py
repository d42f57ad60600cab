"""Flags and configuration files, in upstream's forms, refused by name when wrong.

Source: pflag (`--name=value`, `--name value`, `--switch`, `--switch=false`); component-base configuration files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ryaml

from machinery.errors import SettingsError
from machinery.version import KUBERNETES_VERSION

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of a Go duration such as `1m30s`. Raises ValueError."""
    body = text[1:] if text[:1] in "+-" else text
    parts = _DURATION_PART.findall(body)
    if body == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"time: invalid duration {text!r}")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def show_duration(seconds: float) -> str:
    """As Go prints a duration: 1h0m5s, 1.5s, 250ms, -1s, 0s."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    if not left:
        return "0s"
    if left < 1:
        return f"{sign}{left * 1e3:.6g}ms" if left >= 1e-3 else f"{sign}{left * 1e6:.6g}µs"
    hours, rest = divmod(left, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{sign}{int(hours)}h{int(minutes)}m{text}"
    return f"{sign}{int(minutes)}m{text}" if minutes else sign + text


def boolean(text: str) -> bool:
    """A Go bool. Raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"{text!r} is not true or false")


def strings(text: str) -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def mapping(text: str) -> dict[str, str]:
    """A comma-separated list of key=value. Raises ValueError."""
    pairs = {}
    for part in strings(text):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not key=value")
        pairs[key.strip()] = value.strip()
    return pairs


@dataclass(frozen=True)
class Flag:
    """One flag. `parse` turns its text into a value (ValueError if it can't); a repeated list or map flag adds up."""

    name: str
    parse: Callable[[str], Any] = str
    default: Any = None
    help: str = ""


class FlagSet:
    """The flags of one program."""

    def __init__(self, program: str, flags: Sequence[Flag], harmless: Iterable[str] = ()) -> None:
        """`harmless` names upstream's flags that are accepted and have no effect here, because none is needed."""
        self._program = program
        self._flags = {flag.name: flag for flag in flags}
        self._harmless = frozenset(harmless)

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Values by flag name, defaults included. Raises SettingsError naming the flag.

        SystemExit for --help and --version.
        """
        values = {flag.name: flag.default for flag in self._flags.values()}
        given: set[str] = set()
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument in ("-h", "--help"):
                print(self.usage())
                raise SystemExit(0)
            if argument in ("--version", "--version=true"):
                print(f"Kubernetes {KUBERNETES_VERSION}")
                raise SystemExit(0)
            name, value = self._split(argument, rest)
            if name in self._harmless:
                continue
            flag = self._flags.get(name)
            if flag is None:
                raise SettingsError(f"{self._program}: unknown or unsupported flag: --{name}")
            parsed = self._value(flag, value)
            if name in given and isinstance(parsed, list):
                parsed = values[name] + parsed
            elif name in given and isinstance(parsed, dict):
                parsed = values[name] | parsed
            values[name] = parsed
            given.add(name)
        return values

    def _split(self, argument: str, rest: list[str]) -> tuple[str, str]:
        if argument.startswith("-v") and not argument.startswith("--") and "v" in self._flags:
            return "v", argument[2:].lstrip("=") or (rest.pop(0) if rest else "")
        if not argument.startswith("--") or argument == "--":
            raise SettingsError(f"{self._program}: unexpected argument {argument!r}: flags begin with --")
        name, equals, value = argument[2:].partition("=")
        if equals:
            return name, value
        flag = self._flags.get(name)
        if flag is not None and flag.parse is not boolean:
            if not rest:
                raise SettingsError(f"{self._program}: flag needs an argument: --{name}")
            return name, rest.pop(0)
        if flag is None and name in self._harmless and rest and not rest[0].startswith("-"):
            rest.pop(0)
        return name, "true"

    def _value(self, flag: Flag, text: str) -> Any:
        try:
            return flag.parse(text)
        except ValueError as exc:
            raise SettingsError(f"{self._program}: invalid argument {text!r} for --{flag.name}: {exc}") from exc

    def usage(self) -> str:
        """What --help prints."""
        lines = [f"Usage: {self._program} [flags]", ""]
        for flag in sorted(self._flags.values(), key=lambda f: f.name):
            default = "" if flag.default in (None, "", [], {}) else f" (default {flag.default})"
            lines.append(f"  --{flag.name}\n        {flag.help}{default}")
        return "\n".join(lines)


def read_yaml(path: str | Path) -> list[Any]:
    """The documents of a YAML or JSON file. Raises SettingsError that names the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"cannot parse {path}: {exc}") from exc
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> list[Any]:
    """The documents of a YAML or JSON text. Raises SettingsError that names `where` it comes from."""
    try:
        return [document for document in ryaml.loads_all(text) if document is not None]
    except ryaml.InvalidYamlError as exc:
        raise SettingsError(f"cannot parse {where}: {exc}") from exc


def load_config(path: str | Path, kind: str, api_versions: Sequence[str]) -> dict[str, Any]:
    """A component's configuration file: the one document of this kind. Raises SettingsError."""
    for document in read_yaml(path):
        if isinstance(document, dict) and document.get("kind") == kind:
            if document.get("apiVersion") not in api_versions:
                known = ", ".join(api_versions)
                raise SettingsError(f"{path}: {kind} has apiVersion {document.get('apiVersion')!r}, known: {known}")
            return document
    raise SettingsError(f"{path}: holds no {kind} (apiVersion {api_versions[0]})")
