"""`$(NAME)` in commands, arguments and environment variables.

Source: Container API, command; k8s.io/kubernetes third_party/forked/golang/expansion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PART = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace each `$(NAME)` that is known; `$$` is a dollar; what is unknown stays as it is."""
    if "$" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None:
            return "$"
        return values.get(name, found.group(0))

    return _PART.sub(replace, text)
