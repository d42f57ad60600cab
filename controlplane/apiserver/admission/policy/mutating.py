"""MutatingAdmissionPolicy.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/mutating; KEP-3962.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import Evaluation, ExpressionError
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


@dataclass(frozen=True, slots=True)
class _Call:
    """A policy with what one of its bindings hands to it."""

    policy: Policy
    binding: Binding
    param: Object | None


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong with a policy."""

    policy: Policy
    told: str
    reason: str = ""


def _told(policy: Policy, binding: Binding, message: str) -> str:
    return f"policy '{policy.name}' with binding '{binding.name}' denied request: {message}"


def _refusal(operation: Operation, failures: list[_Failure]) -> StatusError:
    """The 403 of policies; the first one gives message and reason."""
    refusal: StatusError = refuse(operation, "admission request denied by policy")
    refusal.message = failures[0].told
    refusal.reason = failures[0].reason or refusal.reason
    refusal.details = {**(refusal.details or {}), "causes": [{"message": failure.told} for failure in failures]}
    return refusal


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
        """Raises Forbidden where policies that must not fail do."""
        failed: list[_Failure] = []
        calls: list[_Call] = []
        for policy in self._policies.about(operation):
            if error := self._policies.misconfigured(policy):
                failed.append(
                    _Failure(policy, f'policy "{policy.name}" denied request: failed to configure policy: {error}')
                )
                continue
            for binding in self._policies.bindings(policy, operation):
                try:
                    kind, reference = policy.spec.get("paramKind"), binding.spec.get("paramRef")
                    calls += [_Call(policy, binding, p) for p in collect(self._reader, kind, reference, operation)]
                except ParamsError as exc:
                    failed.append(_Failure(policy, _told(policy, binding, f"failed to configure binding: {exc}")))
        last = -1  # the last one that changed something
        for index, call in enumerate(calls):
            before = operation.object
            failed += self._apply(call, operation)
            if operation.object != before:
                last = index
        # Those that ran before it may want to look at what it has changed.
        for call in calls[: max(last, 0)]:
            if (call.policy.spec.get("reinvocationPolicy") or "Never") == "IfNeeded":
                failed += self._apply(call, operation)
        told = [failure for failure in failed if failure.policy.fails_closed]
        if told:
            raise _refusal(operation, told)

    def _apply(self, call: _Call, operation: Operation) -> Iterator[_Failure]:
        """Apply what a policy wants, mutation after mutation; what goes wrong is given on."""
        policy = call.policy

        def evaluation() -> Evaluation:
            return evaluation_of(policy, operation, call.param, self._reader, self._authorize)

        try:
            if unmet_condition(evaluation(), policy.spec.get("matchConditions")) is not None:
                return
        except ExpressionError as exc:
            yield _Failure(policy, _told(policy, call.binding, str(exc)), "Invalid")
            return
        for mutation in policy.spec.get("mutations") or ():
            try:
                operation.object = self._mutated(operation, mutation, evaluation())
            except (ExpressionError, PatchError) as exc:
                yield _Failure(policy, _told(policy, call.binding, str(exc)), "Invalid")

    def _mutated(self, operation: Operation, mutation: Object, evaluation: Evaluation) -> Object:
        if mutation.get("patchType") == "JSONPatch":
            patch = evaluation.value((mutation.get("jsonPatch") or {}).get("expression") or "")
            return apply_json_patch(operation, patch)
        patch = evaluation.value((mutation.get("applyConfiguration") or {}).get("expression") or "")
        return apply_configuration(operation, patch)
