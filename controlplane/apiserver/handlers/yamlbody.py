"""YAML bodies as Go's parser reads them: duplicate keys noticed, the later one counts, Go's words for what is wrong.

Source: sigs.k8s.io/yaml; k8s.io/apiserver/pkg/endpoints/handlers/rest.go (parseYAMLWarnings).
"""

from __future__ import annotations

import re
from typing import Any

import ryaml

from machinery.api import jsontext

_STRICT = "yaml: unmarshal errors:\n"
_MOST_DUPLICATES = 50
_DEEPEST = 2_000  # of flow collections: the parser gives up much earlier, but takes the square of the depth to do so


class YamlError(ValueError):
    """The text is no YAML; the message is Go's."""


def loads(body: bytes) -> tuple[Any, str]:
    """(value, Go's complaint about keys that come twice in a map, or "").

    Raises:
        YamlError: with Go's message.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise YamlError("yaml: invalid leading UTF-8 octet") from exc
    if _is_too_deep(text):
        raise YamlError("yaml: exceeded max depth of 10000")
    strict: list[str] = []
    while True:
        try:
            value = ryaml.loads(text) if text.strip() else None
            return value, _STRICT + "\n".join(strict) if strict else ""
        except ryaml.InvalidYamlError as exc:
            found = _DUPLICATE.search(str(exc))
            if found is not None and text.lstrip()[:1] == "{":
                return _of_json(body, found[1])
            shorter = _without_duplicate(text, found[1], strict) if found is not None else None
            if shorter is None:
                raise YamlError(_go_message(str(exc))) from exc
            text = shorter
        except (TypeError, ValueError) as exc:  # a key that is a collection
            raise YamlError("yaml: invalid map key") from exc


def _is_too_deep(text: str) -> bool:
    """Whether brackets are nested so deep that to parse them would keep everybody else waiting."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > _DEEPEST:
            return True
    return False


def warnings_of(complaint: str) -> list[str]:
    """A complaint of strict decoding as warnings: one for each line of those that YAML's parser has."""
    _, prefix, lines = complaint.rpartition(_STRICT)
    return [line.strip() for line in lines.split("\n")] if prefix else [complaint]


def _of_json(body: bytes, key: str) -> tuple[Any, str]:
    """A flow mapping, if it is JSON."""
    try:
        value, _ = jsontext.loads(body)
    except jsontext.JSONError as exc:
        raise YamlError(f"yaml: {exc}") from exc
    lines = body.decode().split("\n")
    at = [i for i, line in enumerate(lines, 1) for _ in range(line.count(f'"{key}"'))]
    return value, f'{_STRICT}  line {at[-1] if at else 1}: key "{key}" already set in map'


def _go_message(text: str) -> str:
    found = re.match(r"(.*?) at line (\d+) column \d+(?:, .*)?$", text, re.DOTALL)
    if found is None:
        return f"yaml: {text.partition(',')[0]}"
    return f"yaml: line {max(1, int(found[2]) - 1)}: {found[1]}"


_BRACKETS = re.compile(r"[\[\]{}]")
_DUPLICATE = re.compile(r'duplicate entry with key "(.*)"', re.DOTALL)


def _without_duplicate(text: str, twice: str, strict: list[str]) -> str | None:
    """The text without the first of two entries of a key; None if it can't be told apart."""
    if len(strict) > _MOST_DUPLICATES:
        return None
    key = re.escape(twice)
    lines = text.split("\n")
    line_of = re.compile(rf"""^(\s*(?:- )?)["']?{key}["']?\s*:(.*)$""")
    seen: dict[int, int] = {}
    for number, line in enumerate(lines):
        match = line_of.match(line)
        if match is None:
            for indent in [i for i in seen if line.strip() and len(line) - len(line.lstrip()) < i]:
                del seen[indent]
            continue
        indent = len(match[1])
        if indent in seen:
            strict.append(f'  line {number + 1}: key "{twice}" already set in map')
            first = seen[indent]
            if not re.match(rf"^(\s*(?:- )?)[\"']?{key}[\"']?\s*:\s*\S", lines[first]) or "- " in lines[first][:indent]:
                return None
            lines[first] = " " * indent + "# "
            return "\n".join(lines)
        seen[indent] = number
    return None
