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
_LONGEST_NOTE = 10 * 1024


@dataclass(frozen=True, slots=True)
class Denial:
    """One validation that did not hold; or why the policy, or its binding ("": none is to blame), can't be used."""

    policy: str
    binding: str
    message: str
    reason: str = ""
    index: int = 0

    @property
    def told(self) -> str:
        """As the client is told."""
        binding = f" with binding '{self.binding}'" if self.binding else ""
        return f"ValidatingAdmissionPolicy '{self.policy}'{binding} denied request: {self.message}"


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
        for policy in self._policies.about(operation):
            if error := self._policies.misconfigured(policy):
                if policy.fails_closed:
                    denied.append(Denial(policy.name, "", f"failed to configure policy: {error}"))
                continue
            notes: dict[str, list[str]] = {}
            for binding in self._policies.bindings(policy, operation):
                denied += self._bound(policy, binding, operation, notes)
            for key, said in notes.items():
                operation.audit_annotations.setdefault(f"{policy.name}/{key}", ", ".join(said))
        if denied:
            raise _refusal(operation, denied[0])

    def _bound(
        self, policy: Policy, binding: Binding, operation: Operation, notes: dict[str, list[str]]
    ) -> Iterator[Denial]:
        """The denials of one binding, and its audit annotations, which are put into `notes`."""
        try:
            params = collect(self._reader, policy.spec.get("paramKind"), binding.spec.get("paramRef"), operation)
        except ParamsError as exc:
            if policy.fails_closed:
                yield Denial(policy.name, binding.name, f"failed to configure binding: {exc}")
            return
        evaluations = [evaluation_of(policy, operation, param, self._reader, self._authorize) for param in params]
        for evaluation in evaluations:
            try:
                if unmet_condition(evaluation, policy.spec.get("matchConditions")) is not None:
                    continue
            except ExpressionError as exc:
                if policy.fails_closed:
                    yield from _acted_on(Denial(policy.name, binding.name, str(exc)), binding, operation)
                continue
            for denial in _validations(policy, binding, evaluation):
                yield from _acted_on(denial, binding, operation)
            yield from _annotate(policy, binding, evaluation, notes)


def _acted_on(denial: Denial, binding: Binding, operation: Operation) -> Iterator[Denial]:
    """What a binding makes of a denial: it is given on, warned of, or noted (the first of all is)."""
    actions = binding.spec.get("validationActions") or ["Deny"]
    if "Deny" in actions:
        yield denial
    if "Audit" in actions:
        noted = {
            "message": denial.message,
            "policy": denial.policy,
            "binding": denial.binding,
            "expressionIndex": denial.index,
            "validationActions": list(actions),
        }
        operation.audit_annotations.setdefault(_FAILURES, orjson.dumps([noted]).decode())
    if "Warn" in actions:
        operation.warnings.append(
            f"Validation failed for ValidatingAdmissionPolicy '{denial.policy}' "
            f"with binding '{denial.binding}': {denial.message}"
        )


def evaluation_of(
    policy: Policy, operation: Operation, params: Object | None, reader: Reader, authorize: Authorize
) -> Evaluation:
    """What expressions of the policy see of the operation."""
    of_namespace = operation.namespace and operation.resource != NAMESPACES
    namespace = reader.get(NAMESPACES, "", operation.namespace) if of_namespace else None
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
        shown = said.strip() if isinstance(said, str) else ""
        if shown and "\n" not in shown and len(shown.encode()) <= _LONGEST_MESSAGE:
            return shown
    return (validation.get("message") or "").strip() or f"failed expression: {text.strip()}"


def _annotate(
    policy: Policy, binding: Binding, evaluation: Evaluation, notes: dict[str, list[str]]
) -> Iterator[Denial]:
    for annotation in policy.spec.get("auditAnnotations") or ():
        text = annotation.get("valueExpression") or ""
        try:
            said = evaluation.value(text)
        except ExpressionError as exc:
            if policy.fails_closed:
                yield Denial(policy.name, binding.name, f"expression '{text}' resulted in error: {exc}")
            continue
        value = said.strip()[:_LONGEST_NOTE] if isinstance(said, str) else ""
        held = notes.setdefault(str(annotation.get("key")), []) if value else []
        if value and value not in held:
            held.append(value)


def _refusal(operation: Operation, denial: Denial) -> StatusError:
    refusal: StatusError = refuse(operation, denial.told)
    refusal.reason = denial.reason or "Invalid"
    refusal.code = _CODES.get(refusal.reason, 422)
    refusal.details = {**(refusal.details or {}), "causes": [{"message": denial.told}]}
    return refusal
