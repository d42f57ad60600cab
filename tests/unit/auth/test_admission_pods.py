"""What admission makes of pods: account, limits, priority, tolerations, runtime class, labels."""

from __future__ import annotations

from typing import Any

import pytest
from auth_store import Store, creates, named, updates

from controlplane.apiserver.admission.limitranger import LimitRanger
from controlplane.apiserver.admission.pods import (
    AlwaysPullImages,
    DefaultTolerationSeconds,
    ExtendedResourceToleration,
    LimitPodHardAntiAffinityTopology,
    PodTopologyLabels,
)
from controlplane.apiserver.admission.priority import Priority
from controlplane.apiserver.admission.runtimeclass import RuntimeClass
from controlplane.apiserver.admission.serviceaccount import MOUNT_PATH, ServiceAccount
from machinery.api.catalogue import (
    LIMITRANGES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    PRIORITYCLASSES,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
)
from machinery.api.meta import Object
from machinery.errors import Forbidden, Invalid


def pod(**spec: Any) -> Object:
    return named("p", "x", spec={"containers": [{"name": "c", "image": "i"}]} | spec)


def sized(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Object:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return pod(containers=[{"name": "c", "image": "i", "resources": resources}])


# --- ServiceAccount ---------------------------------------------------------------------------------------------------


def with_accounts() -> ServiceAccount:
    store = Store()
    store.put(SERVICEACCOUNTS, named("default", "x"))
    quiet = named("quiet", "x", automountServiceAccountToken=False, imagePullSecrets=[{"name": "reg"}])
    store.put(SERVICEACCOUNTS, quiet)
    enforcing = named("strict", "x", secrets=[{"name": "ok"}], automountServiceAccountToken=False)
    enforcing["imagePullSecrets"] = [{"name": "reg"}]
    enforcing["metadata"]["annotations"] = {"kubernetes.io/enforce-mountable-secrets": "T"}
    store.put(SERVICEACCOUNTS, enforcing)
    return ServiceAccount(store)


async def admitted(plugin: Any, obj: Object) -> Object:
    operation = creates(PODS, obj)
    assert plugin.handles(operation)
    await plugin.admit(operation)
    await plugin.validate(operation)
    spec: Object = obj["spec"]
    return spec


async def test_a_pod_gets_the_default_account_and_its_token() -> None:
    spec = await admitted(with_accounts(), pod(initContainers=[{"name": "i"}]))
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert volume["projected"]["sources"][0] == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    mount = {"name": volume["name"], "readOnly": True, "mountPath": MOUNT_PATH}
    assert spec["containers"][0]["volumeMounts"] == spec["initContainers"][0]["volumeMounts"] == [mount]


async def test_automount_and_pull_secrets() -> None:
    spec = await admitted(with_accounts(), pod(serviceAccountName="quiet"))
    assert "volumes" not in spec
    assert spec["imagePullSecrets"] == [{"name": "reg"}]
    spec = await admitted(with_accounts(), pod(serviceAccountName="quiet", automountServiceAccountToken=True))
    assert len(spec["volumes"]) == 1
    spec = await admitted(with_accounts(), pod(serviceAccountName="quiet", imagePullSecrets=[{"name": "mine"}]))
    assert spec["imagePullSecrets"] == [{"name": "mine"}]


async def test_a_mount_in_the_place_stays() -> None:
    own = [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": MOUNT_PATH}]}]
    assert "volumes" not in await admitted(with_accounts(), pod(containers=own))


async def test_an_absent_account_is_named() -> None:
    with pytest.raises(Forbidden) as refused:
        await admitted(with_accounts(), pod(serviceAccountName="absent"))
    assert refused.value.message == (
        'pods "p" is forbidden: error looking up service account x/absent: serviceaccount "absent" not found'
    )


async def test_an_account_may_restrict_secrets() -> None:
    volumes = [{"name": "v", "secret": {"secretName": "other"}}]
    with pytest.raises(Forbidden, match=r'volume with secret.secretName="other" is not allowed because service acc'):
        await admitted(with_accounts(), pod(serviceAccountName="strict", volumes=volumes))
    allowed = [{"name": "v", "secret": {"secretName": "ok"}}]
    await admitted(with_accounts(), pod(serviceAccountName="strict", volumes=allowed))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"imagePullSecrets": [{"name": "reg"}, {"name": "other"}]},
            r'imagePullSecrets\[1\].name="other" is not allowed because service account strict does not reference',
        ),
        (
            {"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]},
            'init container i with envFrom referencing secret.secretName="other" is not allowed',
        ),
        (
            {
                "containers": [
                    {"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "o", "key": "k"}}}]}
                ],
                "imagePullSecrets": [{"name": "other"}],
            },
            'container c with envVar E referencing secret.secretName="o" is not allowed',
        ),
    ],
)
async def test_what_an_account_does_not_list_is_named(spec: Object, told: str) -> None:
    with pytest.raises(Forbidden, match=told):
        await admitted(with_accounts(), pod(serviceAccountName="strict", **spec))


async def test_the_default_account_is_waited_for() -> None:
    store, pauses = Store(), list[float]()

    async def later(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            store.put(SERVICEACCOUNTS, named("default", "x"))

    spec = await admitted(ServiceAccount(store, later), pod())
    assert spec["serviceAccountName"] == "default"
    assert len(pauses) == 3
    assert 0.1 <= pauses[0] <= 0.2


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        ({"imagePullSecrets": [{"name": "s"}]}, "a mirror pod may not reference secrets"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
async def test_mirror_pods_stay_as_they_are_and_refer_to_nothing(spec: Object, told: str) -> None:
    mirror = pod(nodeName="w1")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    before = dict(mirror["spec"])
    assert await admitted(with_accounts(), mirror) == before
    mirror["spec"] |= spec
    with pytest.raises(Forbidden, match=told):
        await admitted(with_accounts(), mirror)


# --- LimitRanger ------------------------------------------------------------------------------------------------------


def limits(**item: Any) -> LimitRanger:
    store = Store()
    store.put(LIMITRANGES, named("lr", "x", spec={"limits": [{"type": "Container"} | item]}))
    return LimitRanger(store)


async def test_defaults_are_filled_in_and_told() -> None:
    plugin = limits(default={"cpu": "500m", "memory": "256Mi"}, defaultRequest={"cpu": "100m", "memory": "256Mi"})
    given = pod(containers=[{"name": "c", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}])
    spec = await admitted(plugin, given)
    assert spec["containers"][0]["resources"] == {
        "limits": {"cpu": "1", "memory": "256Mi"},
        "requests": {"cpu": "1", "memory": "256Mi"},
    }
    told = given["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert told == "LimitRanger plugin set: memory request for container c; memory limit for container c"


@pytest.mark.parametrize(
    ("item", "given", "told"),
    [
        ({"max": {"cpu": "1"}}, sized(limits={"cpu": "2"}), "maximum cpu usage per Container is 1, but limit is 2"),
        ({"max": {"cpu": "1"}}, sized(), "maximum cpu usage per Container is 1.  No limit is specified"),
        (
            {"max": {"cpu": "1"}},
            sized({"cpu": "2"}, {"cpu": "500m"}),
            "maximum cpu usage per Container is 1, but request is 2",
        ),
        ({"min": {"cpu": "50m"}}, sized({"cpu": "10m"}), "minimum cpu usage per Container is 50m, but request is 10m"),
        ({"min": {"cpu": "50m"}}, sized(), "minimum cpu usage per Container is 50m.  No request is specified"),
        (
            {"maxLimitRequestRatio": {"cpu": "5"}},
            sized({"cpu": "100m"}, {"cpu": "900m"}),
            "cpu max limit to request ratio per Container is 5, but provided ratio is 9.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "5"}},
            sized({"cpu": "100m"}),
            "cpu max limit to request ratio per Container is 5, but no limit is specified or limit is 0",
        ),
        (
            {"type": "Pod", "max": {"memory": "1Gi"}},
            sized(limits={"memory": "2Gi"}),
            "maximum memory usage per Pod is 1Gi, but limit is 2Gi",
        ),
        (
            {"max": {"cpu": "1", "memory": "1Gi"}},
            sized(limits={"cpu": "2", "memory": "2Gi"}),
            "[maximum cpu usage per Container is 1, but limit is 2, "
            "maximum memory usage per Container is 1Gi, but limit is 2Gi]",
        ),
    ],
)
async def test_what_is_out_of_bounds_is_refused(item: Object, given: Object, told: str) -> None:
    with pytest.raises(Forbidden) as refused:
        await limits(**item).validate(creates(PODS, given))
    assert refused.value.message == f'pods "p" is forbidden: {told}'


async def test_claims_have_bounds_too() -> None:
    plugin = limits(type="PersistentVolumeClaim", max={"storage": "5Gi"}, min={"storage": "1Gi"})
    claim = named("c", "x", spec={"resources": {"requests": {"storage": "10Gi"}}})
    with pytest.raises(Forbidden, match="maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi"):
        await plugin.validate(creates(PERSISTENTVOLUMECLAIMS, claim))
    claim["spec"]["resources"]["requests"]["storage"] = "2Gi"
    await plugin.validate(creates(PERSISTENTVOLUMECLAIMS, claim))


# --- Priority ---------------------------------------------------------------------------------------------------------


def classes(*made: Object) -> Priority:
    store = Store()
    for one in made:
        store.put(PRIORITYCLASSES, one)
    return Priority(store)


async def test_priority_comes_from_the_class() -> None:
    plugin = classes(named("hi", value=1000, preemptionPolicy="Never"), named("base", value=5, globalDefault=True))
    spec = await admitted(plugin, pod(priorityClassName="hi"))
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    spec = await admitted(plugin, pod())
    assert (spec["priorityClassName"], spec["priority"]) == ("base", 5)
    spec = await admitted(classes(), pod())
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (
            {"priority": 7},
            "the integer value of priority (7) must not be provided in pod spec; "
            "priority admission controller computed 0 from the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "Never"},
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; "
            "priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
async def test_priority_can_not_be_chosen(spec: Object, told: str) -> None:
    with pytest.raises(Forbidden) as refused:
        await admitted(classes(), pod(**spec))
    assert refused.value.message == f'pods "p" is forbidden: {told}'


async def test_an_update_keeps_the_priority() -> None:
    new = pod()
    await classes().admit(updates(PODS, new, pod(priority=7, preemptionPolicy="Never")))
    assert (new["spec"]["priority"], new["spec"]["preemptionPolicy"]) == (7, "Never")


async def test_only_one_class_is_the_default() -> None:
    plugin = classes(named("base", value=5, globalDefault=True))
    second = named("second", value=1, globalDefault=True)
    with pytest.raises(
        Forbidden, match=r"PriorityClass base is already marked as default\. Only one default can exist"
    ):
        await plugin.validate(creates(PRIORITYCLASSES, second))
    same = named("base", value=5, globalDefault=True)
    await plugin.validate(updates(PRIORITYCLASSES, same, same))


# --- the small ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}], ["not-ready"]),
    ],
)
async def test_tolerations_for_a_while(given: list[Object], keys: list[str]) -> None:
    spec = await admitted(DefaultTolerationSeconds(), pod(tolerations=list(given)))
    added = spec["tolerations"][len(given) :]
    assert [t["key"].removeprefix("node.kubernetes.io/") for t in added] == keys
    assert all((t["effect"], t["tolerationSeconds"]) == ("NoExecute", 300) for t in added)


async def test_a_runtime_class_brings_overhead_and_scheduling() -> None:
    store = Store()
    scheduling = {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}
    store.put(RUNTIMECLASSES, named("kata", overhead={"podFixed": {"memory": "64Mi"}}, scheduling=scheduling))
    spec = await admitted(RuntimeClass(store), pod(runtimeClassName="kata", nodeSelector={"a": "b"}))
    assert spec["overhead"] == {"memory": "64Mi"}
    assert spec["nodeSelector"] == {"a": "b", "vm": "yes"}
    assert spec["tolerations"] == scheduling["tolerations"]
    refused: list[tuple[Object, str]] = [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"runtimeClassName": "kata", "overhead": {"memory": "1Mi"}}, "Pod's Overhead doesn't match RuntimeClass's"),
        ({"runtimeClassName": "kata", "nodeSelector": {"vm": "no"}}, r"conflict: runtimeClass.scheduling.nodeSelector"),
        ({"overhead": {"memory": "1Mi"}}, "Pod Overhead set without corresponding RuntimeClass"),
    ]
    for bad, told in refused:
        with pytest.raises(Forbidden, match=told):
            await admitted(RuntimeClass(store), pod(**bad))


async def test_images_are_always_pulled() -> None:
    spec = await admitted(AlwaysPullImages(), pod())
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    with pytest.raises(Invalid, match=r"spec.containers\[0\].imagePullPolicy"):
        await AlwaysPullImages().validate(creates(PODS, pod()))


async def test_special_resources_are_tolerated() -> None:
    asked = [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1", "cpu": "1"}}}]
    spec = await admitted(ExtendedResourceToleration(), pod(containers=asked))
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]


async def test_anti_affinity_between_hosts_only() -> None:
    term = {"topologyKey": "zone"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    with pytest.raises(Forbidden, match=r"has TopologyKey zone but only key kubernetes\.io/hostname is allowed"):
        await admitted(LimitPodHardAntiAffinityTopology(), pod(affinity=affinity))


async def test_a_binding_tells_zone_and_region() -> None:
    store = Store()
    node = named("w1")
    node["metadata"]["labels"] = {"topology.kubernetes.io/zone": "z", "kubernetes.io/os": "linux"}
    store.put(NODES, node)
    binding = named("p", "x", target={"kind": "Node", "name": "w1"})
    operation = creates(PODS, binding, subresource="binding")
    plugin = PodTopologyLabels(store)
    assert plugin.handles(operation)
    await plugin.admit(operation)
    assert binding["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z"}
