"""`authorizer`: asking whether somebody may do something.

    authorizer.group('apps').resource('deployments').namespace('x').check('get').allowed()

A question grows with each call; `check` puts it to the function that the question carries.

Source: k8s.io/apiserver/pkg/cel/library/{authz,authzselectors}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from machinery.cel.declarations import overload
from machinery.cel.errors import EvaluationError

_PREFIX: Final = "kubernetes.authorization."
_AUTHORIZER, _PATH, _GROUP = f"{_PREFIX}Authorizer", f"{_PREFIX}PathCheck", f"{_PREFIX}GroupCheck"
_RESOURCE, _DECISION = f"{_PREFIX}ResourceCheck", f"{_PREFIX}Decision"


@dataclass(frozen=True, slots=True)
class Decision:
    """kubernetes.authorization.Decision."""

    type_name: ClassVar[str] = _DECISION
    allowed: bool
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked so far. `ask(question, verb)` decides."""

    ask: Callable[[Question, str], Decision] = field(repr=False, compare=False)
    type_name: str = _AUTHORIZER
    service_account: tuple[str, str] | None = None
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""


def _with(question: Question, more: Mapping[str, Any]) -> Question:
    return replace(question, **more)


def resource_question(question: Question, group: str, resource: str, **more: str) -> Question:
    """A question about a resource (authorizer.requestResource)."""
    return _with(replace(question, type_name=_RESOURCE, group=group, resource=resource), more)


def _path(question: Question, path: str) -> Question:
    if not path:
        raise EvaluationError("path must not be empty")
    return replace(question, type_name=_PATH, path=path)


def _resource(question: Question, resource: str) -> Question:
    if not resource:
        raise EvaluationError("resource must not be empty")
    return replace(question, type_name=_RESOURCE, resource=resource)


def _grow(key: str) -> Callable[[Question, str], Question]:
    return lambda question, value: _with(question, {key: value})


def _check(question: Question, verb: str) -> Decision:
    return question.ask(question, verb)


def _service_account(question: Question, namespace: str, name: str) -> Question:
    return replace(question, service_account=(namespace, name))


def _grown(function: str, key: str = "") -> Any:
    return overload(
        f"resourcecheck_{function.lower()}", f"{_RESOURCE}.{function}(string) {_RESOURCE}", _grow(key or function)
    )


FUNCTIONS: Final = [
    overload("authorizer_path", f"{_AUTHORIZER}.path(string) {_PATH}", _path),
    overload(
        "authorizer_group",
        f"{_AUTHORIZER}.group(string) {_GROUP}",
        lambda question, value: replace(question, type_name=_GROUP, group=value),
    ),
    overload(
        "authorizer_serviceaccount", f"{_AUTHORIZER}.serviceAccount(string, string) {_AUTHORIZER}", _service_account
    ),
    overload("groupcheck_resource", f"{_GROUP}.resource(string) {_RESOURCE}", _resource),
    _grown("subresource"),
    _grown("namespace"),
    _grown("name"),
    _grown("fieldSelector", "field_selector"),
    _grown("labelSelector", "label_selector"),
    overload("pathcheck_check", f"{_PATH}.check(string) {_DECISION}", _check),
    overload("resourcecheck_check", f"{_RESOURCE}.check(string) {_DECISION}", _check),
    overload("decision_allowed", f"{_DECISION}.allowed() bool", lambda decision: decision.allowed),
    overload("decision_reason", f"{_DECISION}.reason() string", lambda decision: decision.reason),
    overload("decision_errored", f"{_DECISION}.errored() bool", lambda decision: bool(decision.error)),
    overload("decision_error", f"{_DECISION}.error() string", lambda decision: decision.error),
]
