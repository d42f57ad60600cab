"""What APIServices there should be, whether they can be had, and what extension servers are told to trust."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.apiserver.aggregation import authentication, availability, registration
from controlplane.apiserver.aggregation.remote import identity_headers
from controlplane.apiserver.request import User
from controlplane.apiserver.resources import built_in
from controlplane.apiserver.settings import Settings

REFERENCE = {"namespace": "ns", "name": "svc", "port": 443}


def service(**spec: Any) -> dict[str, Any]:
    return {"spec": {"selector": {"a": "b"}, "ports": [{"port": 443, "name": "https"}], **spec}}


def piece(*addresses: str, port: str = "https", ready: bool = True) -> dict[str, Any]:
    endpoint = {"addresses": list(addresses), "conditions": {"ready": ready}}
    return {"ports": [{"name": port, "port": 1}], "endpoints": [endpoint]}


@pytest.mark.parametrize(
    ("found", "pieces", "reason", "message"),
    [
        (None, [], "ServiceNotFound", 'service/svc in "ns" is not present'),
        (service(ports=[{"port": 1}]), [], "ServicePortError", 'service/svc in "ns" is not listening on port 443'),
        (service(), [], "EndpointsNotFound", 'cannot find endpointslices for service/svc in "ns"'),
        (
            service(),
            [piece("1.2.3.4", port="http"), piece("1.2.3.4", ready=False)],
            "MissingEndpoints",
            'endpointslices for service/svc in "ns" have no addresses with port name "https"',
        ),
    ],
)
def test_why_a_service_can_not_be_reached(found: Any, pieces: list[Any], reason: str, message: str) -> None:
    verdict = availability.of_service(REFERENCE, found, pieces)
    assert verdict is not None
    assert (verdict.available, verdict.reason, verdict.message) == (False, reason, message)


def test_services_that_may_be_reached() -> None:
    assert availability.of_service(REFERENCE, service(), [piece("1.2.3.4")]) is None
    assert availability.of_service(REFERENCE, service(type="ExternalName"), []) is None
    assert availability.of_service(REFERENCE, service(selector=None), []) is None


def test_what_is_served_here_gets_an_apiservice_and_loses_it_with_the_group() -> None:
    wanted = registration.wanted(built_in())
    assert wanted["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert "v1.apiregistration.k8s.io" not in wanted
    managed = {"metadata": {"name": "v1.gone.example.com", "labels": {registration.MANAGED: "true"}}, "spec": {}}
    users = {"metadata": {"name": "v1.other.example.com"}, "spec": {}}
    assert registration.superfluous([managed, users, wanted["v1.apps"]], wanted) == ["v1.gone.example.com"]


def test_who_asks_is_told_in_headers() -> None:
    user = User("jane", "u1", ("a", "b"), {"example.com/x": ("1", "2")})
    assert identity_headers(user) == [
        ("X-Remote-User", "jane"),
        ("X-Remote-Uid", "u1"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-example.com%2Fx", "1"),
        ("X-Remote-Extra-example.com%2Fx", "2"),
    ]


def test_what_several_servers_trust_is_united(tmp_path: Path) -> None:
    def certificate(name: str) -> str:
        return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n"

    assert authentication.trusted(Settings()) == {}
    (tmp_path / "ca").write_text(certificate("A"))
    path = str(tmp_path / "ca")
    settings = replace(
        Settings(),
        client_ca_file=path,
        requestheader_client_ca_file=path,
        requestheader_allowed_names=("front",),
        requestheader_username_headers=("X-Remote-User",),
    )
    ours = authentication.trusted(settings)
    assert ours["requestheader-allowed-names"] == '["front"]'
    theirs = {**ours, "client-ca-file": certificate("B") + certificate("A"), "requestheader-allowed-names": '["other"]'}
    both = authentication.merged(ours, theirs)
    assert both["client-ca-file"] == certificate("A") + certificate("B")
    assert both["requestheader-allowed-names"] == '["front","other"]'
    assert authentication.merged(ours, both) == both
