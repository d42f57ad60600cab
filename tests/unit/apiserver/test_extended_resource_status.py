"""What the scheduler may say of the claim for a pod's extended resources, and that nodes may not say it."""

from typing import Any

import pytest

from controlplane.apiserver.registry.validation.pod_status import validate_status_update
from machinery.api.meta import Object

AT = "status.extendedResourceClaimStatus"
CONTAINER = {"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}
POD: Object = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"containers": [CONTAINER], "initContainers": [{**CONTAINER, "name": "i"}]},
}


def uses(container: str = "c", resource: str = "example.com/gpu", request: str = "r") -> Object:
    return {"containerName": container, "resourceName": resource, "requestName": request}


def told(*mappings: Object, name: str = "claim") -> list[str]:
    special: dict[str, Any] = {"requestMappings": list(mappings), "resourceClaimName": name}
    new = {**POD, "status": {"extendedResourceClaimStatus": special}}
    return [str(error) for error in validate_status_update(new, POD)]


@pytest.mark.parametrize(
    ("mappings", "name", "errors"),
    [
        ([uses(), uses("i"), uses(request="s")], "claim", []),
        ([], "claim", [f"{AT}.requestMappings: Required value: at least one request mapping is required"]),
        (
            [uses("x")],
            "claim",
            [
                f'{AT}.requestMappings[0].containerName: Invalid value: "x": must match the name of an entry in '
                "spec.initContainers.name or spec.containers.name"
            ],
        ),
        (
            [uses(resource="example.com/nic")],
            "claim",
            [
                f'{AT}.requestMappings[0].resourceName: Invalid value: "example.com/nic": must match the extended '
                "resource name of an entry in spec.initContainers.resources.requests or "
                "spec.containers.resources.requests"
            ],
        ),
        (
            [uses(), uses()],
            "claim",
            [
                f'{AT}.requestMappings[1].containerName: Duplicate value: "c"',
                f'{AT}.requestMappings[1].resourceName: Duplicate value: "example.com/gpu"',
                f'{AT}.requestMappings[1].requestName: Duplicate value: "r"',
            ],
        ),
        ([uses()], "", [f"{AT}.resourceClaimName: Required value"]),
    ],
)
def test_it_is_for_what_containers_ask_for(mappings: list[Object], name: str, errors: list[str]) -> None:
    assert told(*mappings, name=name) == errors


def test_names_are_names() -> None:
    request, claim = told(uses(request="R"), name="Claim")
    assert request.startswith(f'{AT}.requestName: Invalid value: "R": a lowercase RFC 1123 label must consist of')
    assert claim.startswith(f'{AT}.resourceClaimName: Invalid value: "Claim": a lowercase RFC 1123 subdomain must')
