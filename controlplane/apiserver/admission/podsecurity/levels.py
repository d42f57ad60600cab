"""What a namespace's labels ask for: a level and a version for each of enforce, audit and warn.

Source: k8s.io/pod-security-admission/api.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from machinery.api.fielderror import FieldError, invalid

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)  # from lax to strict
LATEST = 10**6
_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Standard:
    """A level as of a minor version of Kubernetes 1.x."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is refused, what is noted in the audit log, what is warned about."""

    enforce: Standard = field(default_factory=Standard)
    audit: Standard = field(default_factory=Standard)
    warn: Standard = field(default_factory=Standard)


def parse_version(text: str) -> int | None:
    """The minor version of `latest` or `v1.N`; None if it is neither."""
    if text == "latest":
        return LATEST
    match = _VERSION.fullmatch(text)
    return int(match.group(1)) if match else None


def policy_of(labels: Mapping[str, str], defaults: Policy) -> tuple[Policy, list[FieldError]]:
    """The policy of a namespace with these labels, and what is wrong with them.

    What can't be read counts as restricted for enforce, and as privileged for audit and warn.
    """
    if not any(key.startswith(PREFIX) for key in labels):
        return defaults, []
    errors: list[FieldError] = []
    enforce = _standard("enforce", labels, defaults.enforce, RESTRICTED, errors)
    audit = _standard("audit", labels, defaults.audit, PRIVILEGED, errors)
    warn = _standard("warn", labels, defaults.warn, PRIVILEGED, errors)
    enforced, warned = f"{PREFIX}enforce" in labels, f"{PREFIX}warn" in labels
    if enforced and not warned and LEVELS.index(enforce.level) > LEVELS.index(warn.level):
        # Controllers of pods are not refused: a warning is how their users learn of it.
        minor = warn.minor if f"{PREFIX}warn-version" in labels else enforce.minor
        warn = Standard(enforce.level, minor)
    return Policy(enforce, audit, warn), errors


def _standard(
    mode: str, labels: Mapping[str, str], default: Standard, fallback: str, errors: list[FieldError]
) -> Standard:
    made = default
    key = f"{PREFIX}{mode}"
    if key in labels:
        level = labels[key]
        if level not in LEVELS:
            errors.append(invalid(f"metadata.labels[{key}]", level, f"must be one of {', '.join(LEVELS)}"))
            level = fallback
        made = replace(made, level=level)
    key += "-version"
    if key in labels:
        minor = parse_version(labels[key])
        if minor is None:
            errors.append(invalid(f"metadata.labels[{key}]", labels[key], 'must be "latest" or "v1.x"'))
            minor = LATEST
        made = replace(made, minor=minor)
    return made
