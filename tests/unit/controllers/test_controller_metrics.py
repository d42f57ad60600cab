"""What the controllers' metrics count when somebody asks."""

from controlplane.controllers.metrics import ResourceClaims, Volumes, action
from machinery.api.meta import Object


def test_volumes_and_claims_are_counted_by_whether_they_are_bound() -> None:
    counted = Volumes()
    bound: Object = {"status": {"phase": "Bound"}}
    fast: Object = {"spec": {"storageClassName": "fast"}}
    free: Object = {"spec": {}, "status": {"phase": "Available"}}
    counted.volumes = lambda: [{**fast, **bound}, {**fast, **bound}, free]
    counted.claims = lambda: [
        {"metadata": {"namespace": "a"}, **bound},
        {"metadata": {"namespace": "a"}, "status": {"phase": "Pending"}},
        {"metadata": {"namespace": "b"}},
    ]
    found = {(s.name, *s.labels.values()): s.value for family in counted.collect() for s in family.samples}
    assert found == {
        ("pv_collector_bound_pv_count", "fast"): 2,
        ("pv_collector_unbound_pv_count", ""): 1,
        ("pv_collector_bound_pvc_count", "a"): 1,
        ("pv_collector_unbound_pvc_count", "a"): 1,
        ("pv_collector_unbound_pvc_count", "b"): 1,
    }


def test_claims_of_devices_are_counted_by_where_they_come_from() -> None:
    counted = ResourceClaims()
    given: Object = {"metadata": {}, "spec": {}}
    request = {"name": "r", "exactly": {"adminAccess": True}}

    def marked(name: str, value: str, status: Object) -> Object:
        return {"metadata": {"annotations": {f"resource.kubernetes.io/{name}": value}}, "spec": {}, "status": status}

    made = marked("pod-claim-name", "gpu", {"allocation": {"devices": {}}})
    special = marked("extended-resource-claim", "true", {})
    admin = {"metadata": {}, "spec": {"devices": {"requests": [request]}}}
    counted.claims = lambda: [given, given, made, special, admin]
    found = {tuple(s.labels.values()): s.value for family in counted.collect() for s in family.samples}
    assert found == {
        ("false", "false", ""): 2,
        ("false", "true", "resource_claim_template"): 1,
        ("false", "false", "extended_resource"): 1,
        ("true", "false", ""): 1,
    }


def test_what_an_autoscaler_did() -> None:
    assert [action(2, 2), action(2, 3), action(2, 1)] == ["none", "scale_up", "scale_down"]
