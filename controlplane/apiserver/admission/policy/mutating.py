"""MutatingAdmissionPolicy.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/mutating; KEP-3962.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import ExpressionError
from controlplane.apiserver.admission.patched import PatchError, apply_configuration, apply_json_patch
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse
from controlplane.apiserver.admission.policy.compiled import Binding, Policies, Policy, unmet_condition
from controlplane.apiserver.admission.policy.params import ParamsError, collect
from controlplane.apiserver.admission.policy.validating import evaluation_of
from controlplane.apiserver.handlers.contract import Authorize
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS
from machinery.api.meta import Object
from machinery.errors import StatusError


class MutatingAdmissionPolicy(BasePlugin):
    """Evaluates the policies' mutations and applies them, one policy after the other."""

    name = "MutatingAdmissionPolicy"

    def __init__(self, reader: Reader, authorize: Authorize) -> None:
        self._reader = reader
        self._authorize = authorize
        self._policies = Policies(reader, MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS)

    def handles(self, operation: Operation) -> bool:
        """What a policy is about."""
        return operation.verb in (CREATE, UPDATE) and self._policies.concern(operation)

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden where a policy that must not fail does."""
        pairs = list(self._policies.matching(operation))
        last = -1  # the last one that changed something
        for index, (policy, binding) in enumerate(pairs):
            before = operation.object
            self._apply(policy, binding, operation)
            if operation.object != before:
                last = index
        # Those that ran before it may want to look at what it has changed.
        for policy, binding in pairs[: max(last, 0)]:
            if (policy.spec.get("reinvocationPolicy") or "Never") == "IfNeeded":
                self._apply(policy, binding, operation)

    def _apply(self, policy: Policy, binding: Binding, operation: Operation) -> None:
        try:
            self._mutate(policy, binding, operation)
        except (ExpressionError, ParamsError, PatchError) as exc:
            if policy.fails_closed:
                told = f"policy '{policy.name}' with binding '{binding.name}' denied request: {exc}"
                refusal: StatusError = refuse(operation, told)
                refusal.reason, refusal.code = "Invalid", 422
                raise refusal from exc

    def _mutate(self, policy: Policy, binding: Binding, operation: Operation) -> None:
        if policy.error:
            raise ExpressionError(f"failed to configure policy: {policy.error}")
        params = collect(self._reader, policy.spec.get("paramKind"), binding.spec.get("paramRef"), operation)
        for param in params:
            evaluation = evaluation_of(policy, operation, param, self._reader, self._authorize)
            if unmet_condition(evaluation, policy.spec.get("matchConditions")) is not None:
                continue
            for mutation in policy.spec.get("mutations") or ():
                evaluation = evaluation_of(policy, operation, param, self._reader, self._authorize)
                operation.object = self._mutated(operation, mutation, evaluation)

    def _mutated(self, operation: Operation, mutation: Object, evaluation: Any) -> Object:
        if mutation.get("patchType") == "JSONPatch":
            patch = evaluation.value((mutation.get("jsonPatch") or {}).get("expression") or "")
            return apply_json_patch(operation, patch)
        patch = evaluation.value((mutation.get("applyConfiguration") or {}).get("expression") or "")
        return apply_configuration(operation, patch)
