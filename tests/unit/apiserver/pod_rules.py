"""Pods to be judged, and what is said of them."""

from __future__ import annotations

import copy
from typing import Any

from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.validation import pods
from machinery.api.catalogue import PODS
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object


def told(errors: list[FieldError]) -> list[str]:
    """The errors as texts."""
    return [str(error) for error in errors]


def pod(**spec: Any) -> Object:
    """A pod with these fields in its spec, defaulted."""
    made: Object = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": "i"}], **copy.deepcopy(spec)},
    }
    strategy_for(PODS).default(made)
    return made


def wrong(made: Object) -> list[str]:
    """What is wrong with a pod."""
    return told(pods.validate(made))
