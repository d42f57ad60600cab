"""Which pods' sandboxes need not wait for their volumes."""

from __future__ import annotations

import pytest

from agent.kubelet.pods.preparation import needs_nothing_of_users
from machinery.api.meta import Object

_TOKEN: Object = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
_ROOT: Object = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
_NAMESPACE: Object = {
    "downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}
}


def _pod(*volumes: Object, **spec: object) -> Object:
    return {"spec": {"volumes": list(volumes), **spec}}


@pytest.mark.parametrize(
    "volumes",
    [
        (),
        ({"name": "e", "emptyDir": {}},),
        ({"name": "t", "projected": {"sources": [_TOKEN, _ROOT, _NAMESPACE]}}, {"name": "e", "emptyDir": {}}),
    ],
)
def test_what_every_pod_has_is_not_waited_for(volumes: tuple[Object, ...]) -> None:
    assert needs_nothing_of_users(_pod(*volumes))


@pytest.mark.parametrize(
    "volume",
    [
        {"configMap": {"name": "kube-root-ca.crt"}},
        {"secret": {"secretName": "s"}},
        {"hostPath": {"path": "/there", "type": "Directory"}},
        {"persistentVolumeClaim": {"claimName": "c"}},
        {"emptyDir": {"medium": "HugePages"}},
        {"projected": {"sources": [_TOKEN, {"configMap": {"name": "mine"}}]}},
        {"projected": {"sources": [{"secret": {"name": "s"}}]}},
        {"csi": {"driver": "d"}},
    ],
)
def test_what_a_user_may_have_got_wrong_is_waited_for(volume: Object) -> None:
    every = {"name": "t", "projected": {"sources": [_TOKEN, _ROOT, _NAMESPACE]}}
    assert not needs_nothing_of_users(_pod(every, {"name": "v", **volume}))


def test_claimed_devices_are_waited_for() -> None:
    assert not needs_nothing_of_users(_pod(resourceClaims=[{"name": "gpu"}]))
