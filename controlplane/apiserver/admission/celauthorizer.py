"""`authorizer` of CEL: asks the server's authorisers about the user of the request.

    authorizer.group('apps').resource('deployments').namespace('x').check('get').allowed()

A question is a map that grows with each call; `check` answers it.

Source: k8s.io/apiserver/pkg/cel/library/authz.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import ExpressionError
from controlplane.apiserver.authn.identity import service_account_groups, service_account_name
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.request import RequestInfo, User

Question = dict[str, Any]


def variable(operation: Operation) -> Question:
    """The value of `authorizer`."""
    return {
        "requestResource": {
            "kind": "resource",
            "group": operation.resource.group,
            "resource": operation.resource.plural,
            "subresource": operation.subresource,
            "namespace": operation.namespace,
            "name": operation.name,
        }
    }


def functions(operation: Operation, authorize: Authorize) -> dict[str, Callable[..., Any]]:
    """The methods of questions and answers."""

    def grow(key: str) -> Callable[[Question, str], Question]:
        return lambda question, value: {**question, key: value}

    def check(question: Question, verb: str) -> Question:
        user = operation.user
        if "serviceAccount" in question:
            namespace, name = question["serviceAccount"]
            user = User(service_account_name(namespace, name), groups=service_account_groups(namespace))
        allowed, reason = _now(authorize(user, _request(question, verb)))
        return {"allowed": allowed, "reason": reason}

    return {
        "group": lambda question, value: {**question, "kind": "resource", "group": value},
        "path": lambda question, value: {**question, "kind": "path", "path": value},
        "serviceAccount": lambda question, ns, name: {**question, "serviceAccount": [ns, name]},
        "resource": grow("resource"),
        "subresource": grow("subresource"),
        "namespace": grow("namespace"),
        "name": grow("name"),
        "fieldSelector": grow("fieldSelector"),
        "labelSelector": grow("labelSelector"),
        "check": check,
        "allowed": lambda answer: answer["allowed"],
        "reason": lambda answer: answer["reason"],
        "errored": lambda answer: False,
        "error": lambda answer: "",
    }


def _request(question: Question, verb: str) -> RequestInfo:
    if question.get("kind") == "path":
        return RequestInfo(verb=verb, path=question["path"])
    return RequestInfo(
        verb=verb,
        path="",
        is_resource=True,
        group=question.get("group", ""),
        version="*",
        resource=question.get("resource", ""),
        subresource=question.get("subresource", ""),
        namespace=question.get("namespace", ""),
        name=question.get("name", ""),
        field_selector=question.get("fieldSelector", ""),
        label_selector=question.get("labelSelector", ""),
    )


def _now(answer: Any) -> tuple[bool, str]:
    """The result of a coroutine that has nothing to wait for: CEL can't be suspended."""
    try:
        answer.send(None)
    except StopIteration as done:
        allowed, reason = done.value
        return bool(allowed), str(reason)
    answer.close()
    raise ExpressionError("authorizer: the decision depends on a webhook, which an expression can't wait for")
