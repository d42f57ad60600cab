"""What the controllers' metrics count when somebody asks."""

from controlplane.controllers.metrics import Volumes, action
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


def test_what_an_autoscaler_did() -> None:
    assert [action(2, 2), action(2, 3), action(2, 1)] == ["none", "scale_up", "scale_down"]
