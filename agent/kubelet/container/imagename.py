"""Names of images: `[host[:port]/]path[:tag][@digest]`.

Source: distribution/reference; kubelet's util/parsers.
"""

from __future__ import annotations

import fnmatch
import re

_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PATH}(?:/{_PATH})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_MAX_NAME = 255
DEFAULT_REGISTRY = "docker.io"


def with_default_tag(image: str) -> str:
    """The name with `:latest` if it has neither tag nor digest. Raises ValueError with upstream's words."""
    found = _REFERENCE.fullmatch(image)
    if found is None:
        lower = _REFERENCE.fullmatch(image.lower())
        why = "repository name must be lowercase" if lower is not None else "invalid reference format"
        if lower is not None:
            why = f"invalid reference format: {why}"
        raise ValueError(f'couldn\'t parse image name "{image}": {why}')
    if len(found["name"]) > _MAX_NAME:
        raise ValueError(f'couldn\'t parse image name "{image}": repository name must not be more than 255 characters')
    return image if found["tag"] or found["digest"] else f"{image}:latest"


def registry_matches(pattern: str, registry: str) -> bool:
    """Whether `host[:port]`, each of its labels a glob, is for a registry; the ports must be the same."""
    host, _, port = registry.partition(":")
    pattern_host, _, pattern_port = pattern.partition(":")
    labels, patterns = host.split("."), pattern_host.split(".")
    if port != pattern_port or len(labels) != len(patterns):
        return False
    return all(fnmatch.fnmatchcase(label, glob) for label, glob in zip(labels, patterns, strict=True))


def registry_and_path(image: str) -> tuple[str, str]:
    """(`registry[:port]`, repository path) of a name; Docker Hub where none is named."""
    found = _REFERENCE.fullmatch(image)
    name = found["name"] if found is not None else image
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DEFAULT_REGISTRY, name if slash else f"library/{name}"
