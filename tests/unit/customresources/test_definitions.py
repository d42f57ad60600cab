"""What is wrong with CustomResourceDefinitions, in upstream's words; what their statuses say."""

import copy
from typing import Any

import pytest

from controlplane.apiserver.customresources import lifecycle
from controlplane.apiserver.registry.validation import definitions
from machinery.api import meta

GOOD: dict[str, Any] = {
    "metadata": {"name": "ships.example.com", "uid": "u"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "listKind": "ShipList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}},
                    }
                },
            }
        ],
        "conversion": {"strategy": "None"},
    },
    "status": {"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]},
}
ANY = {"type": "object"}
SCHEMA = "spec.validation.openAPIV3Schema"


def changed(path: str, value: Any) -> dict[str, Any]:
    made: Any = copy.deepcopy(GOOD)
    at = made
    *names, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    for name in names:
        at = at[name] if isinstance(name, int) else at.setdefault(name, {})
    at[last] = value
    return dict(made)


def told(definition: dict[str, Any]) -> list[str]:
    return [str(error) for error in definitions.definition(definition)]


def test_a_good_one_is_accepted() -> None:
    assert told(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "metadata/name",
            "x.example.com",
            'metadata.name: Invalid value: "x.example.com": must be spec.names.plural+"."+',
        ),
        ("spec/scope", "Global", 'spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"'),
        (
            "spec/names/listKind",
            "Ship",
            'spec.names.listKind: Invalid value: "Ship": kind and listKind may not be the same',
        ),
        ("spec/names/kind", "sh_ip", "may have mixed case, but should otherwise match: a DNS-1035 label must consist"),
        (
            "spec/names/shortNames",
            ["S"],
            'spec.names.shortNames[0]: Invalid value: "S": a DNS-1035 label must consist of',
        ),
        ("spec/versions/0/storage", False, "must have exactly one version marked as storage version"),
        ("spec/versions/0/schema", None, "spec.versions[0].schema.openAPIV3Schema: Required value"),
        ("spec/versions/0/deprecationWarning", "old", "can only be set for deprecated versions"),
        (
            "spec/preserveUnknownFields",
            True,
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-",
        ),
        (
            "status/storedVersions",
            ["v1", "v0"],
            'status.storedVersions[1]: Invalid value: "v0": missing from spec.versions',
        ),
        (
            "spec/versions/0/additionalPrinterColumns",
            [{"name": "A", "type": "text", "jsonPath": "spec"}],
            'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path',
        ),
        (
            "spec/versions/0/subresources",
            {"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"}},
            'spec.subresources.scale.specReplicasPath: Invalid value: ".status.n": should be a json path under .spec',
        ),
        (
            "spec/versions/0/selectableFields",
            [{"jsonPath": ".spec.none"}],
            'spec.selectableFields[0].jsonPath: Invalid value: ".spec.none": is an invalid path: does not refer to a',
        ),
        (
            "spec/versions/0/selectableFields",
            [{"jsonPath": ".spec.n"}, {"jsonPath": ".spec.n"}],
            'spec.selectableFields[1].jsonPath: Duplicate value: ".spec.n"',
        ),
        (
            "spec/versions/0/selectableFields",
            [{"jsonPath": ".spec"}],
            "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are",
        ),
        (
            "spec/conversion",
            {"strategy": "Webhook"},
            "spec.conversion.webhookClientConfig: Required value: required when",
        ),
        (
            "spec/conversion",
            {
                "strategy": "Webhook",
                "webhook": {"clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v9"]},
            },
            'spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1',
        ),
        (
            "spec/conversion",
            {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}},
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to",
        ),
    ],
)
def test_what_is_wrong_with_a_definition(path: str, value: Any, message: str) -> None:
    assert any(message in error for error in told(changed(path, value))), told(changed(path, value))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string"}, f'{SCHEMA}.type: Invalid value: "string": must be object at the root'),
        ({"type": "object", "nullable": True}, f"{SCHEMA}.nullable: Forbidden: nullable cannot be true at the root"),
        (
            {"type": "object", "properties": {"a": {"default": 1, "type": "string"}}},
            f'{SCHEMA}.properties[a].default: Invalid value: "integer": must be of type string: "integer"',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object", "default": {"x": 1}}}},
            f'{SCHEMA}.properties[a].default: Invalid value: {{"x":1}}: must not have unknown fields',
        ),
        (
            {"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": ANY}}}},
            f"{SCHEMA}.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ),
        (
            {"type": "object", "properties": {"a": {"anyOf": [{"properties": {"x": {"minimum": 1}}}], **ANY}}},
            f"{SCHEMA}.properties[a].properties[x]: Required value: because it is defined in {SCHEMA}.properties[a]",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object", "not": {"type": "string"}}}},
            f"{SCHEMA}.properties[a].not.type: Forbidden: must be empty to be structural",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": ANY, "x-kubernetes-list-type": "set"}}},
            "must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        ({"type": "object", "properties": {"a": {"type": "thing"}}}, 'Unsupported value: "thing": supported values: '),
        ({"type": "object", "$ref": "#/x"}, f"{SCHEMA}.$ref: Forbidden: $ref is not supported"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_schema(schema: dict[str, Any], message: str) -> None:
    found = told(changed("spec/versions/0/schema/openAPIV3Schema", schema))
    assert any(message in error for error in found), found


def test_what_is_stored_once_can_not_be_renamed() -> None:
    established = copy.deepcopy(GOOD)
    established["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    for path, value in (
        ("group", "other.com"),
        ("scope", "Cluster"),
        ("names/kind", "Boat"),
        ("names/plural", "boats"),
    ):
        errors = definitions.definition_update(changed(f"spec/{path}", value), established)
        field = f"spec.{path.replace('/', '.')}"
        assert f'{field}: Invalid value: "{value}": field is immutable' in [str(e) for e in errors]
    assert definitions.definition_update(GOOD, established) == []


def test_groups_of_kubernetes_own_need_leave() -> None:
    own = changed("spec/group", "x.k8s.io")
    own["metadata"]["name"] = "ships.x.k8s.io"
    assert any('must have approval annotation "api-approved.kubernetes.io", see' in error for error in told(own))
    expected = {
        "unapproved, a trial": ("False", "UnapprovedAnnotation"),
        "https://github.com/kubernetes/enhancements/1": ("True", "ApprovedAnnotation"),
        "yes": ("False", "InvalidAnnotation"),
    }
    for text, (status, reason) in expected.items():
        own["metadata"]["annotations"] = {"api-approved.kubernetes.io": text}
        assert (told(own) == []) is (reason != "InvalidAnnotation")
        conditions = lifecycle.plan_status(own, [], "now")["conditions"]
        found = meta.condition(conditions, "KubernetesAPIApprovalPolicyConformant")
        assert found is not None
        assert (found["status"], found["reason"]) == (status, reason)
    assert (
        meta.condition(lifecycle.plan_status(GOOD, [], "now")["conditions"], "KubernetesAPIApprovalPolicyConformant")
        is None
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "spec/versions/0/schema",
            None,
            "spec.versions[0].schema.openAPIV3Schema: Required value",
        ),
        (
            "metadata/name",
            "Ships.example.com",
            'metadata.name: Invalid value: "Ships.example.com": a lowercase RFC 1123 subdomain must consist of',
        ),
        ("metadata/generateName", "s-", 'metadata.generateName: Invalid value: "s-": must be spec.names.plural+"."+'),
        (
            "spec/versions/0/selectableFields",
            [{"jsonPath": ".spec['n']"}],
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec['n']\": is an invalid path: array notation is",
        ),
        (
            "spec/versions/0/selectableFields",
            [{"jsonPath": "spec.n"}],
            'Invalid value: "spec.n": is an invalid path: expected [ or . but got: spec',
        ),
        ("spec/versions/0/selectableFields", [{"jsonPath": ".spec."}], "unexpected end of JSON path"),
    ],
)
def test_what_else_is_wrong_with_a_definition(path: str, value: Any, message: str) -> None:
    assert any(message in error for error in told(changed(path, value))), told(changed(path, value))


def test_fields_are_selected_in_each_version_by_its_own_schema() -> None:
    second = copy.deepcopy(GOOD["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    second["schema"]["openAPIV3Schema"]["properties"] = {"spec": ANY}
    both = changed("spec/versions", [GOOD["spec"]["versions"][0], second])
    for version in both["spec"]["versions"]:
        version["selectableFields"] = [{"jsonPath": ".spec.n"}]
    assert told(both) == [
        'spec.versions[1].selectableFields[0].jsonPath: Invalid value: ".spec.n": is an invalid path: does not refer '
        "to a valid field"
    ]


def test_what_a_conversion_was_it_may_stay() -> None:
    def converted(**webhook: Any) -> dict[str, Any]:
        return changed("spec/conversion", {"strategy": "Webhook", "webhook": webhook})

    client = {"url": "https://x.example.com", "caBundle": "bm8="}
    odd = converted(clientConfig=client, conversionReviewVersions=["v9"])
    found = [str(e) for e in definitions.definition_update(odd, GOOD)]
    assert found == [
        'spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1'
    ]
    odd["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    assert definitions.definition_update(odd, odd) == []
    good = copy.deepcopy(GOOD) | {"status": odd["status"]}
    found = [str(e) for e in definitions.definition_update(odd, good)]
    assert found[0].startswith('spec.conversion.webhookClientConfig.caBundle: Invalid value: "bm8="')
    assert len(found) == 2


def test_formats_that_mean_nothing_are_warned_of_once() -> None:
    fields = {
        "a": {"type": "string", "format": "odd"},
        "b": {"type": "integer", "format": "int32"},
        "c": {"type": "array", "items": {"type": "number", "format": "int32"}},
        "d": {"type": "string", "format": "date-time"},
        "e": {"type": "object", "additionalProperties": {"type": "boolean", "format": "odd"}},
    }
    new = changed("spec/versions/0/schema/openAPIV3Schema", {**ANY, "properties": fields})
    assert definitions.definition_warnings(new, None) == ['unrecognized format "odd"', 'unrecognized format "int32"']
    old = changed("spec/versions/0/schema/openAPIV3Schema", {**ANY, "properties": {"a": fields["a"]}})
    assert definitions.definition_warnings(new, old) == ['unrecognized format "int32"']
