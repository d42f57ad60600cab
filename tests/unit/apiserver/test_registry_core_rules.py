"""Rules of the core group where one and the same mistake is told in upstream's own, sometimes odd, words."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
from pod_rules import pod, told, wrong

from controlplane.apiserver.reader import Reader
from controlplane.apiserver.registry import privileged, strategy_for
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.registry.validation import (
    claims,
    configuration,
    endpoints,
    persistent_sources,
    services,
    sources,
    storage,
)
from controlplane.apiserver.registry.validation.parts import check_address, check_network
from controlplane.apiserver.request import User
from machinery.api.catalogue import DEPLOYMENTS, LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS, SERVICES, STATEFULSETS
from machinery.api.meta import Object

STRICT = "must not have leading 0s"


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        ("10.0.0.1", ""),
        ("2001:db8::1", ""),
        ("10.0.0.0", ""),
        ("010.0.0.1", STRICT),
        ("10.0.00.1", STRICT),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
        ("1.2.3", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("0x1.2.3.4", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ],
)
def test_addresses_are_written_in_one_way(address: str, detail: str) -> None:
    assert told(check_address("f", address)) == ([f'f: Invalid value: "{address}": {detail}'] if detail else [])


@pytest.mark.parametrize(
    ("network", "detail"),
    [
        ("10.0.0.0/8", ""),
        ("0.0.0.0/0", ""),
        ("2001:db8::/64", ""),
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ],
)
def test_networks_are_written_in_one_way(network: str, detail: str) -> None:
    assert told(check_network("f", network)) == ([f'f: Invalid value: "{network}": {detail}'] if detail else [])


def test_an_address_of_endpoints_is_looked_at_twice() -> None:
    assert told(endpoints.endpoints({"subsets": [{"addresses": [{"ip": "x"}]}]})) == [
        'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address',
    ]


@pytest.mark.parametrize(
    ("rule", "source", "expected"),
    [
        (sources.iscsi, {"targetPortal": "t", "iqn": "eui.0123456789abcdeg"}, []),
        (
            sources.iscsi,
            {"targetPortal": "t", "iqn": "naa.0123"},
            ['v.iqn: Invalid value: "naa.0123": must be valid format'],
        ),
        (
            sources.SHARED_SOURCES["flocker"],
            {"datasetName": "a/b", "datasetUUID": "u"},
            [
                'v: Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously',
                "v.datasetName: Invalid value: \"a/b\": must not contain '/'",
            ],
        ),
        (sources.SHARED_SOURCES["quobyte"], {"registry": "[::1]:80,h:1", "volume": "v"}, []),
        (
            sources.SHARED_SOURCES["quobyte"],
            {"registry": "h", "volume": "v"},
            ['v.registry: Invalid value: "h": must be a host:port pair or multiple pairs separated by commas'],
        ),
        (persistent_sources.PERSISTENT_SOURCES["cinder"], {"volumeID": "v", "secretRef": {}}, [
            "v.secretRef.name: Required value",
            "v.secretRef.namespace: Required value",
        ]),
    ],
)  # fmt: skip
def test_sources_of_volumes(rule: Any, source: Object, expected: list[str]) -> None:
    assert told(rule("v", source)) == expected


ISCSI = {
    "targetPortal": "p" * 60,
    "iqn": "iqn.2015-02.example.com:test",
    "lun": 0,
    "initiatorName": "iqn.2015-02.e.com:i",
}
TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is "
    "specified."
)


def test_an_initiator_of_its_own_needs_a_short_name() -> None:
    assert wrong(pod(volumes=[{"name": "volume", "iscsi": ISCSI}])) == [
        f'spec.volumes[0].name: Invalid value: "volume": {TOO_LONG}'
    ]
    volume = {
        "metadata": {"name": "volume"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "iscsi": ISCSI},
    }
    assert told(storage.volume(volume)) == [f'spec.iscsi.targetportal: Invalid value: "{"p" * 60}": {TOO_LONG}']


CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}


def test_claims_of_ephemeral_volumes() -> None:
    template = {"metadata": {"labels": {"a": "b c"}, "name": "x", "uid": "u"}, "spec": CLAIM}
    made = pod(
        volumes=[
            {"name": "v" * 60, "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "p-" + "v" * 60}},
        ]
    )
    assert wrong(made) == [
        f'spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-{"v" * 60}": must not reference a '
        f"PVC that "
        "gets created for an ephemeral volume"
    ]
    made["metadata"]["name"] = "p" * 200
    (error,) = wrong(made)
    assert error.startswith(f'spec.volumes[0].name: Invalid value: "{"v" * 60}": PVC name "ppp')
    at = "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata"
    found = wrong(pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]))
    assert found[0].startswith(f'{at}.labels: Invalid value: "b c": ')
    assert found[1:] == [f"{at}.name: Forbidden: cannot be set", f"{at}.uID: Forbidden: cannot be set"]


def service(**spec: Any) -> Object:
    made: Object = {
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], **spec},
    }
    strategy_for(SERVICES).default(made)
    return made


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "LoadBalancer", "ports": [{"port": 10250}]}, []),
        (
            {"clusterIPs": ["10.0.0.1", "None"]},
            [
                'spec.clusterIPs[1]: Invalid value: "None": must be a valid IP address, (e.g. 10.9.8.7 or '
                "2001:db8::ffff)"
            ],
        ),
        (
            {"clusterIPs": ["10.0.0.1", "2001::1", "10.0.0.2"]},
            ['spec.clusterIPs: Invalid value: ["10.0.0.1","2001::1","10.0.0.2"]: may only hold up to 2 values'],
        ),
    ],
)
def test_services(spec: Object, expected: list[str]) -> None:
    assert told(services.service(service(**spec))) == expected


def test_families_of_a_service() -> None:
    old = service(ipFamilies=["IPv4", "IPv6"], clusterIPs=["10.0.0.1", "2001::1"], ipFamilyPolicy="RequireDualStack")
    swapped = service(ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
    found = told(services.service_update(swapped, old))
    assert 'spec.ipFamilies[0]: Invalid value: ["10.0.0.1"]: may not change once set' in found
    headless = service(clusterIP="None", clusterIPs=["None"], ipFamilies=["IPv6"])
    assert not any("ipFamilies" in error for error in told(services.service_update(headless, old)))


@pytest.mark.parametrize(
    ("content", "kind"), [("W10=", "array"), ("MQ==", "number"), ("InMi", "string"), ("dHJ1ZQ==", "bool")]
)
def test_a_secret_for_a_registry_is_an_object(content: str, kind: str) -> None:
    made = {"type": "kubernetes.io/dockercfg", "data": {".dockercfg": content}}
    assert told(configuration.secret(made)) == [
        f'data[.dockercfg]: Invalid value: "<secret contents redacted>": json: cannot unmarshal {kind} into Go '
        f"value of "
        "type map[string]interface {}"
    ]


def test_modes_of_access() -> None:
    assert told(claims.access_modes("m", ["ReadWriteOncePod", "odd"])) == [
        'm: Unsupported value: "odd": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", '
        '"ReadWriteOncePod"'
    ]


def test_nodes_of_a_volume_may_get_their_stable_labels() -> None:
    def volume(key: str) -> Object:
        expression = {"key": key, "operator": "In", "values": ["z"]}
        return {
            "metadata": {"name": "v"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1"},
                "nfs": {"server": "s", "path": "/"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            },
        }

    old = volume("failure-domain.beta.kubernetes.io/zone")
    assert told(storage.volume_update(volume("topology.kubernetes.io/zone"), old)) == []
    (error,) = told(storage.volume_update(volume("topology.kubernetes.io/region"), old))
    assert error.endswith("field is immutable, except for updating from beta label to GA")


def test_privileged_containers_are_refused_where_the_server_does_not_allow_them() -> None:
    container = {"name": "c", "securityContext": {"privileged": True}}
    template = {"spec": {"template": {"spec": {"initContainers": [container]}}}}
    assert told(privileged.refused(DEPLOYMENTS, template)) == [
        "spec.template.spec.initContainers[0].securityContext.privileged: Forbidden: disallowed by cluster policy"
    ]
    options = {"securityContext": {"windowsOptions": {"hostProcess": True}}, "containers": [{"name": "c"}]}
    assert told(privileged.refused(PODS, {"spec": options})) == [
        "spec: Forbidden: hostProcess containers are disallowed by cluster policy"
    ]
    assert privileged.refused(SERVICES, template) == []


CONTEXT = Context(User("u"), cast("Reader", None), "2030-01-01T00:00:00Z")
SOURCE = {"kind": "PersistentVolumeClaim", "name": "c"}
SNAPSHOT = {"kind": "VolumeSnapshot", "name": "s", "apiGroup": "snapshot.storage.k8s.io"}
OTHER = {"kind": "Other", "name": "o", "apiGroup": "a.b"}


@pytest.mark.parametrize(
    ("spec", "source", "reference"),
    [
        ({"dataSource": SOURCE}, SOURCE, SOURCE),
        ({"dataSource": SNAPSHOT}, SNAPSHOT, SNAPSHOT),
        ({"dataSource": OTHER}, None, None),
        ({"dataSourceRef": OTHER}, OTHER, OTHER),
        ({"dataSource": OTHER, "dataSourceRef": OTHER}, OTHER, OTHER),
        ({"dataSourceRef": SOURCE | {"namespace": "x"}}, None, SOURCE | {"namespace": "x"}),
    ],
)
def test_what_a_new_claim_is_filled_from(spec: Object, source: Object | None, reference: Object | None) -> None:
    made: Object = {"metadata": {"name": "c"}, "spec": copy.deepcopy(spec)}
    strategy_for(PERSISTENTVOLUMECLAIMS).prepare_create(made, CONTEXT)
    assert (made["spec"].get("dataSource"), made["spec"].get("dataSourceRef")) == (source, reference)


def test_a_claim_keeps_the_source_it_had() -> None:
    old: Object = {"metadata": {"name": "c"}, "spec": {"dataSource": OTHER, "dataSourceRef": OTHER}}
    new: Object = {"metadata": {"name": "c"}, "spec": {"dataSource": dict(OTHER)}}
    strategy_for(PERSISTENTVOLUMECLAIMS).prepare_update(new, old, CONTEXT)
    assert new["spec"] == {"dataSource": OTHER, "dataSourceRef": OTHER}
    template: Object = {"metadata": {}, "spec": {"template": {"spec": {}}, "volumeClaimTemplates": [{"spec": {}}]}}
    template["spec"]["volumeClaimTemplates"][0]["spec"] = {"dataSource": SOURCE}
    strategy_for(STATEFULSETS).default(template)
    assert "dataSourceRef" not in template["spec"]["volumeClaimTemplates"][0]["spec"]


def test_a_limit_range_needs_no_name() -> None:
    made: Object = {"metadata": {}, "spec": {"limits": []}}
    strategy_for(LIMITRANGES).prepare_create(made, CONTEXT)
    assert len(made["metadata"]["name"]) == 36


def test_a_wrong_divisor_is_told_beside_what_is_missing() -> None:
    reference = {"resource": "limits.cpu", "divisor": "2"}
    items = [{"path": "p", "resourceFieldRef": reference}]
    assert wrong(pod(volumes=[{"name": "v", "downwardAPI": {"items": items}}])) == [
        "spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value",
        'spec.volumes[0].downwardAPI.resourceFieldRef.divisor: Invalid value: "limits.cpu": '
        "only divisor's values 1m and 1 are supported with the cpu resource",
    ]


def test_what_an_environment_is_taken_from_may_end_in_a_dash() -> None:
    sources = [{"configMapRef": {"name": "a-"}}, {"secretRef": {"name": "-a"}}]
    told = wrong(pod(containers=[{"name": "c", "image": "i", "envFrom": sources}]))
    assert [error.partition(":")[0] for error in told] == ["spec.containers[0].envFrom[1].secretRef.name"]
