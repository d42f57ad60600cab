"""`authorizer` of admission's expressions: asks the server's authorisers about the user of the request.

Source: k8s.io/apiserver/pkg/cel/library/authz.go; pkg/admission/plugin/cel (requestResource).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.authn.identity import service_account_groups, service_account_name
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.request import RequestInfo, User
from machinery.cel.errors import EvaluationError
from machinery.cel.library.authorization import Decision, Question, resource_question


def variables(operation: Operation, authorize: Authorize) -> dict[str, Question]:
    """The values of `authorizer` and `authorizer.requestResource`."""

    def ask(question: Question, verb: str) -> Decision:
        user = operation.user
        if question.service_account is not None:
            namespace, name = question.service_account
            user = User(service_account_name(namespace, name), groups=service_account_groups(namespace))
        allowed, reason = _now(authorize(user, _request(question, verb)))
        return Decision(allowed, reason)

    authorizer = Question(ask)
    about = resource_question(
        authorizer,
        operation.resource.group,
        operation.resource.plural,
        subresource=operation.subresource,
        namespace=operation.namespace,
        name=operation.name,
    )
    return {"authorizer": authorizer, "authorizer.requestResource": about}


def _request(question: Question, verb: str) -> RequestInfo:
    if question.path:
        return RequestInfo(verb=verb, path=question.path)
    return RequestInfo(
        verb=verb,
        path="",
        is_resource=True,
        group=question.group,
        version="*",
        resource=question.resource,
        subresource=question.subresource,
        namespace=question.namespace,
        name=question.name,
        field_selector=question.field_selector,
        label_selector=question.label_selector,
    )


def _now(answer: Any) -> tuple[bool, str]:
    """The result of a coroutine that has nothing to wait for: CEL can't be suspended."""
    try:
        answer.send(None)
    except StopIteration as done:
        allowed, reason = done.value
        return bool(allowed), str(reason)
    answer.close()
    raise EvaluationError("authorizer: the decision depends on a webhook, which an expression can't wait for")
