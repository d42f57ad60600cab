"""The authorisers in order, each with its settings: from --authorization-config, or from the older flags.

Source: apiserver.config.k8s.io/v1 AuthorizationConfiguration; k8s.io/apiserver/pkg/apis/apiserver/validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.apiserver.authz.conditions import ALL, Conditions
from controlplane.apiserver.authz.webhook import WebhookSettings
from controlplane.apiserver.configdocument import read_document
from machinery import settings as texts
from machinery.api import fielderror, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.cel.errors import CompileError
from machinery.errors import SettingsError

FLAG = "--authorization-config"
MODES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
IN_CLUSTER, FILE = "InClusterConfig", "KubeConfigFile"
_MOST_CONDITIONS = 64
_LONGEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One authoriser."""

    mode: str
    name: str
    webhook: WebhookSettings | None = None


def load(path: str) -> tuple[Entry, ...]:
    """What the file says. Raises SettingsError with all that is wrong."""
    return parse(read_document(path, "AuthorizationConfiguration", FLAG), f"{FLAG}: {path}")


def parse(document: Object, where: str) -> tuple[Entry, ...]:
    """The authorisers of a document. Raises SettingsError."""
    reader = _Reader()
    entries = reader.entries(document.get("authorizers"))
    if reader.errors:
        told = [str(error) for error in reader.errors]
        raise SettingsError(f"{where}: " + (told[0] if len(told) == 1 else f"[{', '.join(told)}]"))
    return entries


class _Reader:
    """Takes a document apart and collects what is wrong with it."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def entries(self, given: Any) -> tuple[Entry, ...]:
        if not isinstance(given, list) or not given:
            self.errors.append(fielderror.required("authorizers", "at least one authorization mode must be defined"))
            return ()
        found: list[Entry] = []
        for at, told in enumerate(given):
            entry = self._entry(told if isinstance(told, dict) else {}, f"authorizers[{at}]", found)
            if entry is not None:
                found.append(entry)
        return tuple(found)

    def _entry(self, told: Object, where: str, before: Sequence[Entry]) -> Entry | None:
        mode, name, webhook = told.get("type") or "", told.get("name") or "", told.get("webhook")
        if not mode:
            self.errors.append(fielderror.required(f"{where}.type"))
            return None
        if mode not in MODES:
            self.errors.append(fielderror.not_supported(f"{where}.type", mode, MODES))
            return None
        if mode != "Webhook" and any(other.mode == mode for other in before):
            self.errors.append(fielderror.duplicate(f"{where}.type", mode))
            return None
        if not name:
            self.errors.append(fielderror.required(f"{where}.name"))
        elif any(other.name == name for other in before):
            self.errors.append(fielderror.duplicate(f"{where}.name", name))
        elif wrong := names.dns1123_subdomain(str(name)):
            self.errors.append(
                fielderror.invalid(f"{where}.name", name, f"authorizer name is invalid: {', '.join(wrong)}")
            )
        if mode != "Webhook":
            if webhook is not None:
                why = "may only be specified when type=Webhook"
                self.errors.append(fielderror.invalid(f"{where}.webhook", "non-null", why))
            return Entry(mode, str(name))
        if not isinstance(webhook, dict):
            self.errors.append(fielderror.required(f"{where}.webhook", "required when type=Webhook"))
            return None
        return Entry(mode, str(name), self._webhook(webhook, where))

    def _webhook(self, told: Object, where: str) -> WebhookSettings:
        timeout = self._seconds(told, "timeout", where, most=_LONGEST_SECONDS)
        authorized = self._seconds(told, "authorizedTTL", where)
        unauthorized = self._seconds(told, "unauthorizedTTL", where)
        self._choice(told, "subjectAccessReviewVersion", where, ("v1", "v1beta1"))
        conditions = told.get("matchConditions") or []
        if not told.get("matchConditionSubjectAccessReviewVersion"):
            if conditions:
                field = f"{where}.matchConditionSubjectAccessReviewVersion"
                self.errors.append(fielderror.required(field, "required if match conditions are specified"))
        else:
            self._choice(told, "matchConditionSubjectAccessReviewVersion", where, ("v1",))
        self._choice(told, "failurePolicy", where, ("NoOpinion", "Deny"))
        return WebhookSettings(
            self._connection(told.get("connectionInfo"), f"{where}.connectionInfo"),
            authorized,
            unauthorized,
            timeout,
            version=str(told.get("subjectAccessReviewVersion") or "v1"),
            deny_on_failure=told.get("failurePolicy") == "Deny",
            conditions=self._conditions(conditions, f"{where}.matchConditions"),
        )

    def _seconds(self, told: Object, name: str, where: str, *, most: float = 0.0) -> float:
        text = told.get(name)
        try:
            seconds = texts.duration(text) if isinstance(text, str) else 0.0
        except ValueError as exc:
            self.errors.append(fielderror.invalid(f"{where}.{name}", text, str(exc)))
            return 0.0
        if not seconds:
            self.errors.append(fielderror.required(f"{where}.{name}"))
        elif seconds < 0 or (most and seconds > most):
            why = f"must be > 0s and <= {most:.0f}s" if most else "must be > 0s"
            self.errors.append(fielderror.invalid(f"{where}.{name}", texts.show_duration(seconds), why))
        return seconds

    def _choice(self, told: Object, name: str, where: str, choices: Sequence[str]) -> None:
        value = told.get(name)
        if not value:
            self.errors.append(fielderror.required(f"{where}.{name}"))
        elif value not in choices:
            self.errors.append(fielderror.not_supported(f"{where}.{name}", value, choices))

    def _connection(self, told: Any, where: str) -> str:
        """The kubeconfig file; "" for the cluster's own server."""
        given = told if isinstance(told, dict) else {}
        kind, path = given.get("type"), given.get("kubeConfigFile")
        field = f"{where}.kubeConfigFile"
        if not kind:
            self.errors.append(fielderror.required(f"{where}.type"))
        elif kind == IN_CLUSTER:
            if path is not None:
                self.errors.append(fielderror.invalid(field, path, "can only be set when type=KubeConfigFile"))
            return ""
        elif kind != FILE:
            self.errors.append(fielderror.not_supported(f"{where}.type", kind, (IN_CLUSTER, FILE)))
        elif not path:
            self.errors.append(fielderror.required(field))
        elif not Path(path).is_absolute():
            self.errors.append(fielderror.invalid(field, path, "must be an absolute path"))
        elif not Path(path).exists():
            why = f"error loading file: stat {path}: no such file or directory"
            self.errors.append(fielderror.invalid(field, path, why))
        elif not Path(path).is_file():
            self.errors.append(fielderror.invalid(field, path, "must be a regular file"))
        return str(path or "")

    def _conditions(self, given: Any, where: str) -> Conditions:
        if len(given) > _MOST_CONDITIONS:
            self.errors.append(fielderror.too_many(where, len(given), _MOST_CONDITIONS))
            return ALL
        found: list[str] = []
        for at, told in enumerate(given):
            expression, field = str((told or {}).get("expression") or ""), f"{where}[{at}].expression"
            if not expression.strip():
                self.errors.append(fielderror.required(field))
            elif expression in found:
                self.errors.append(fielderror.duplicate(field, expression))
            else:
                found.append(expression)
                try:
                    Conditions.of([expression])
                except CompileError as exc:
                    told_ = str(exc) if str(exc).startswith("must") else f"{exc.title}: {exc}"
                    self.errors.append(fielderror.invalid(field, expression, told_))
                    found.pop()
        return Conditions.of(found)
