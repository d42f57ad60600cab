"""Variables from a file of a volume (fileKeyRef): a subset of the shell's syntax, every value in single quotes.

Source: KEP-3721; kubelet's util/env/env_util.go, messages as there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.kubelet.container.errors import ContainerConfigError
from agent.kubelet.volumes import subpath
from agent.kubelet.volumes.model import MountedVolume
from machinery.api.meta import Object

_MOST_BYTES = 1 << 20
_BLANK = " \t"


def value_of(reference: Object, volumes: Mapping[str, MountedVolume]) -> str | None:
    """The value that a fileKeyRef names; None for an optional one that is not there. Raises ContainerConfigError."""
    name, path, key = reference["volumeName"], reference["path"], reference["key"]
    optional = bool(reference.get("optional"))
    volume = volumes.get(name)
    if volume is None or not volume.path:
        raise ContainerConfigError(f'cannot find the volume "{name}" referenced by FileKeyRef')
    where = os.path.join(volume.path, path)
    try:
        text = _read(volume.path, path)
    except FileNotFoundError as error:
        if optional:
            return None
        told = f'failed to open environment variable file "{where}": {error.strerror}'
        raise ContainerConfigError(f"couldn't parse env file: {told}") from error
    except (OSError, ValueError) as error:
        raise ContainerConfigError(f"couldn't parse env file: {error}") from error
    try:
        found = parse(text, key)
    except ValueError as error:
        raise ContainerConfigError(f"couldn't parse env file: {error}") from error
    if found:
        return found
    if optional:
        return None
    # As upstream, for which nothing and no such variable are the same.
    raise ContainerConfigError(f'environment variable key "{key}" not found in file "{where}"')


def _read(base: str, path: str) -> str:
    # What a container wrote must not lead out of its volume.
    handle = subpath.open_beneath(base, path)
    with os.fdopen(handle, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES} bytes")
    return content.decode(errors="replace")


def parse(text: str, key: str) -> str | None:
    """The value of a variable; None if the file has none of this name. Raises ValueError for a wrong line."""
    lines = enumerate(text.splitlines(), start=1)
    for number, whole in lines:
        line = whole.lstrip(_BLANK)
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        problem = _problem(name, equals, value)
        if problem:
            raise ValueError(f"invalid environment variable format at line {number}: {problem}")
        if value.startswith(tuple(_BLANK)) or not value:  # as in a shell: nothing is given to the variable
            if name == key:
                return ""
            continue
        found, rest = "", value[1:]
        while "'" not in rest:
            found += rest + "\n"
            following = next(lines, None)
            if following is None:
                raise ValueError(
                    f"invalid environment variable format starting at line {number}: unclosed single quote"
                )
            rest = following[1]
        inside, _, after = rest.partition("'")
        after = after.lstrip(_BLANK)
        if after and not after.startswith("#"):
            told = "unexpected content after closing quote"
            raise ValueError(f"invalid environment variable format at line {number}: {told}")
        if name == key:
            return found + inside
    return None


def _problem(name: str, equals: str, value: str) -> str:
    if not equals:
        return "missing '='"
    if not name.strip(_BLANK):
        return "empty variable name"
    if name != name.rstrip(_BLANK):
        return "whitespace before '=' is not allowed"
    if value and not value.startswith((*_BLANK, "'")):
        return "value must be enclosed in single quotes"
    return ""
