"""Configuration files of the group apiserver.config.k8s.io that flags name.

Source: k8s.io/apiserver/pkg/apis/apiserver (v1, v1beta1, v1alpha1).
"""

from __future__ import annotations

from pathlib import Path

import ryaml

from machinery.api.meta import Object
from machinery.errors import SettingsError

_GROUP = "apiserver.config.k8s.io"
_VERSIONS = tuple(f"{_GROUP}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))


def read_document(path: str, kind: str, flag: str) -> Object:
    """The document of this kind in a file. Raises SettingsError naming the flag and the file."""
    try:
        document = ryaml.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, ryaml.InvalidYamlError) as exc:
        raise SettingsError(f"{flag}: can't read {path}: {exc}") from exc
    if not isinstance(document, dict) or document.get("apiVersion") not in _VERSIONS or document.get("kind") != kind:
        raise SettingsError(f"{flag}: {path} is not an {kind} of {_VERSIONS[0]}")
    return document
