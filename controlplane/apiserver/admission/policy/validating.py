"""ValidatingAdmissionPolicy.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/validating/{dispatcher,validator}.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.apiserver.admission import celauthorizer
from controlplane.apiserver.admission.admissionrequest import admission_request
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import Evaluation, ExpressionError
from controlplane.apiserver.admission.plugin import BasePlugin, refuse
from controlplane.apiserver.admission.policy.compiled import Binding, Policies, Policy, unmet_condition
from controlplane.apiserver.admission.policy.params import ParamsError, collect
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import NAMESPACES, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from machinery.api.meta import Object
from machinery.errors import StatusError

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
_LONGEST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class Denial:
    """One validation that did not hold."""

    policy: str
    binding: str
    message: str
    reason: str
    index: int


class ValidatingAdmissionPolicy(BasePlugin):
    """Evaluates the policies; denies, warns and notes as their bindings say."""

    name = "ValidatingAdmissionPolicy"

    def __init__(self, reader: Reader, authorize: Authorize) -> None:
        self._reader = reader
        self._authorize = authorize
        self._policies = Policies(reader, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS)

    def handles(self, operation: Operation) -> bool:
        """What a policy is about."""
        return self._policies.concern(operation)

    async def validate(self, operation: Operation) -> None:
        """Raises a StatusError with the code of the first denial."""
        denied: list[Denial] = []
        audited: list[Object] = []
        for policy, binding in self._policies.matching(operation):
            actions = binding.spec.get("validationActions") or ["Deny"]
            for denial in self._denials(policy, binding, operation):
                if "Deny" in actions:
                    denied.append(denial)
                if "Audit" in actions:
                    audited.append(
                        {
                            "message": denial.message,
                            "policy": denial.policy,
                            "binding": denial.binding,
                            "expressionIndex": denial.index,
                            "validationActions": list(actions),
                        }
                    )
                if "Warn" in actions:
                    operation.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy '{denial.policy}' "
                        f"with binding '{denial.binding}': {denial.message}"
                    )
        if audited:
            operation.audit_annotations[_FAILURES] = orjson.dumps(audited).decode()
        if denied:
            raise _refusal(operation, denied[0])

    def _denials(self, policy: Policy, binding: Binding, operation: Operation) -> Iterator[Denial]:
        def misconfigured(message: str) -> Iterator[Denial]:
            if policy.fails_closed:
                yield Denial(policy.name, binding.name, message, "", 0)

        if policy.error:
            yield from misconfigured(f"failed to configure policy: {policy.error}")
            return
        try:
            params = collect(self._reader, policy.spec.get("paramKind"), binding.spec.get("paramRef"), operation)
        except ParamsError as exc:
            yield from misconfigured(f"failed to configure binding: {exc}")
            return
        for param in params:
            evaluation = evaluation_of(policy, operation, param, self._reader, self._authorize)
            try:
                if unmet_condition(evaluation, policy.spec.get("matchConditions")) is not None:
                    continue
            except ExpressionError as exc:
                yield from misconfigured(str(exc))
                continue
            yield from _validations(policy, binding, evaluation)
            _annotate(policy, operation, evaluation)


def evaluation_of(
    policy: Policy, operation: Operation, params: Object | None, reader: Reader, authorize: Authorize
) -> Evaluation:
    """What expressions of the policy see of the operation."""
    namespace = reader.get(NAMESPACES, "", operation.namespace) if operation.namespace else None
    return Evaluation(
        policy.expressions,
        {
            "object": operation.object,
            "oldObject": operation.old,
            "request": admission_request(operation),
            "params": params,
            "namespaceObject": namespace,
            **celauthorizer.variables(operation, authorize),
        },
    )


def _validations(policy: Policy, binding: Binding, evaluation: Evaluation) -> Iterator[Denial]:
    for index, validation in enumerate(policy.spec.get("validations") or ()):
        text = validation.get("expression") or ""
        reason = validation.get("reason") or ""
        try:
            holds = evaluation.value(text)
        except ExpressionError as exc:
            if policy.fails_closed:
                message = f"expression '{text}' resulted in error: {exc}"
                yield Denial(policy.name, binding.name, message, "", index)
            continue
        if holds is not True:
            yield Denial(policy.name, binding.name, _message(validation, text, evaluation), reason, index)


def _message(validation: Any, text: str, evaluation: Evaluation) -> str:
    if validation.get("messageExpression"):
        try:
            said = evaluation.value(validation["messageExpression"])
        except ExpressionError:
            said = None
        if isinstance(said, str) and said.strip() and "\n" not in said and len(said) <= _LONGEST_MESSAGE:
            return said.strip()
    return (validation.get("message") or "").strip() or f"failed expression: {text.strip()}"


def _annotate(policy: Policy, operation: Operation, evaluation: Evaluation) -> None:
    for annotation in policy.spec.get("auditAnnotations") or ():
        try:
            said = evaluation.value(annotation.get("valueExpression") or "")
        except ExpressionError:
            continue
        if isinstance(said, str) and said:
            key = f"{policy.name}/{annotation.get('key')}"
            before = operation.audit_annotations.get(key)
            operation.audit_annotations[key] = f"{before}, {said}" if before else said


def _refusal(operation: Operation, denial: Denial) -> StatusError:
    told = (
        f"ValidatingAdmissionPolicy '{denial.policy}' with binding '{denial.binding}' denied request: {denial.message}"
    )
    refusal: StatusError = refuse(operation, told)
    refusal.reason = denial.reason or "Invalid"
    refusal.code = _CODES.get(refusal.reason, 422)
    refusal.details = {**(refusal.details or {}), "causes": [{"message": told}]}
    return refusal
