"""What containers, classes and daemons are held to; who else can be asked for pods; restarts of everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web
from kubelet_values import container, ended, pod, ran, runtime, sized

from agent.kubelet.cgroups import hierarchy
from agent.kubelet.cgroups.hierarchy import Hierarchy
from agent.kubelet.cgroups.pods import PodCgroups
from agent.kubelet.container import resources
from agent.kubelet.container.deviceneeds import Placement
from agent.kubelet.container.resources import Rules
from agent.kubelet.container.userns import UserNamespaces
from agent.kubelet.pods import conditions
from agent.kubelet.pods.phase import phase_of
from agent.kubelet.pods.plan import ProbeVerdicts, plan_pod
from agent.kubelet.pods.staticurl import StaticUrl
from agent.kubelet.settings import Settings
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.testing.clock import FakeClock

GI = 1 << 30
SWAPPING = Rules(memory_bytes=8 * GI, swap_bytes=4 * GI, unified=True, can_limit_swap=True, limited_swap=True)


@pytest.mark.parametrize(
    ("of_container", "priority", "limit"),
    [
        (sized(requests={"memory": "2Gi"}), 0, GI),
        (sized(requests={"memory": "2Gi"}, limits={"memory": "4Gi"}), 0, GI),
        (sized(requests={"memory": "2Gi"}, limits={"memory": "2Gi"}), 0, 0),
        (sized(requests={"cpu": "1"}), 0, 0),
        (container(), 0, 0),
        (sized(requests={"memory": "16Gi"}), 0, 0),
        (sized(requests={"memory": "2Gi"}), 2_000_000_000, 0),
    ],
)
def test_burstable_pods_swap_in_proportion(of_container: Object, priority: int, limit: int) -> None:
    of_pod = pod(of_container, priority=priority)
    assert resources.of_container(of_pod, of_container, SWAPPING).unified["memory.swap.max"] == str(limit)


def test_nobody_swaps_where_that_is_not_asked_for() -> None:
    wanted = sized(requests={"memory": "1Gi"}, limits={"memory": "2Gi"})
    unified = Rules(memory_bytes=8 * GI, unified=True, can_limit_swap=True)
    assert resources.of_container(pod(wanted), wanted, unified).unified["memory.swap.max"] == "0"
    old = Rules(memory_bytes=8 * GI, can_limit_swap=True)
    assert resources.of_container(pod(wanted), wanted, old).memory_swap_limit_in_bytes == 2 * GI
    assert resources.of_container(pod(wanted), wanted, Rules()).memory_swap_limit_in_bytes == 0


def test_huge_pages_that_are_not_asked_for_are_not_to_be_had() -> None:
    wanted = sized(limits={"hugepages-2Mi": "4Mi"})
    made = resources.of_container(pod(wanted), wanted, Rules(page_sizes=("1GB", "2MB")))
    assert {h.page_size: h.limit for h in made.hugepage_limits} == {"1GB": 0, "2MB": 4 << 20}


def test_what_a_container_has_no_limit_of_is_limited_by_the_pods() -> None:
    wanted = sized(requests={"cpu": "1"})
    made = resources.of_container(
        pod(wanted, resources={"limits": {"cpu": "2", "memory": "1Gi"}}), wanted, Rules(memory_bytes=GI)
    )
    assert (made.cpu_quota, made.memory_limit_in_bytes) == (200_000, GI)


def test_who_has_processors_of_its_own_has_no_quota() -> None:
    both = {"cpu": "1", "memory": "1Gi"}
    wanted = sized(requests=both, limits=both)
    made = resources.of_container(pod(wanted), wanted, Rules())
    Placement("1-2", "0", exclusive=True).add_to(made)
    assert (made.cpuset_cpus, made.cpuset_mems, made.cpu_quota) == ("1-2", "0", -1)
    groups = PodCgroups(Settings(), Hierarchy(True, {}))
    groups.has_exclusive_cpus = lambda uid: uid == "uid-p"
    assert groups.limits_of(pod(wanted)).cpu_quota_us == -1


def test_limits_of_processors_that_are_not_enforced_are_lifted_from_the_pod_too() -> None:
    wanted = sized(requests={"cpu": "1"}, limits={"cpu": "2", "memory": "1Gi"})
    for enforced, quota in ((True, 200_000), (False, -1)):
        made = PodCgroups(Settings(cpu_cfs_quota=enforced), Hierarchy(True, {})).limits_of(pod(wanted))
        assert (made.cpu_quota_us, made.memory_bytes) == (quota, GI)


# -- control groups ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for cgroup v2's tree: files that exist take what is written."""
    monkeypatch.setattr(hierarchy, "ROOT", str(tmp_path))
    for group in ("system.slice", "kubepods/burstable", "kubepods/besteffort"):
        os.makedirs(tmp_path / group)
        for name in ("memory.max", "cpu.weight", "pids.max"):
            (tmp_path / group / name).write_text("")
    return tmp_path


def test_daemons_are_held_to_what_is_reserved_for_them(tree: Path) -> None:
    reserved = {"cpu": "1", "memory": "1Gi", "pid": "100"}
    fields = {"system_reserved": reserved, "system_reserved_cgroup": "/system.slice"}
    PodCgroups(Settings(enforce_allocatable=("pods", "system-reserved"), **fields), Hierarchy(True, {})).set_up(  # type: ignore[arg-type]
        4000, 4 * GI
    )
    found = [(tree / "system.slice" / name).read_text() for name in ("memory.max", "cpu.weight", "pids.max")]
    assert found == [str(GI), "39", "100"]


def test_daemons_without_a_group_are_told(tree: Path) -> None:
    settings = Settings(enforce_allocatable=("kube-reserved-compressible",), kube_reserved_cgroup="/none")
    told = 'Failed to enforce Kube Reserved Cgroup Limits on "/none": "/none" cgroup does not exist'
    with pytest.raises(SettingsError, match=told):
        PodCgroups(settings, Hierarchy(True, {})).set_up(4000, 4 * GI)


def test_memory_of_better_classes_is_kept_for_them(tree: Path) -> None:
    settings = Settings(qos_reserved={"memory": "50%"}, feature_gates={"QOSReserved": "true"})
    groups = PodCgroups(settings, Hierarchy(True, {}))
    groups.set_up(4000, 8 * GI)
    both = {"cpu": "1", "memory": "2Gi"}
    groups.share([pod(sized(requests=both, limits=both), name="g"), pod(sized(requests={"memory": "2Gi"}), name="b")])
    assert (tree / "kubepods/burstable/memory.max").read_text() == str(7 * GI)
    assert (tree / "kubepods/besteffort/memory.max").read_text() == str(6 * GI)


def test_each_pod_has_as_many_user_ids_as_are_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "pods" / f"uid-{name}").mkdir(parents=True)
    users = UserNamespaces(str(tmp_path), 131072)
    first, second = (users.of_pod(pod(name=name, hostUsers=False), supported=True) for name in "ab")
    assert first is not None
    assert second is not None
    assert [(m.host_id, m.length) for m in (*first.uids, *second.gids)] == [(131072, 131072), (262144, 131072)]


# -- static pods of a web server --------------------------------------------------------------------------------------

MANIFEST = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n"


async def test_static_pods_of_a_web_server() -> None:
    answers, seen = [MANIFEST], []
    told: list[Mapping[str, Object]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Metadata-Flavor"))
        return web.Response(text=answers[-1], status=500 if answers[-1] == "broken" else 200)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        settings = Settings(static_pod_url=url, static_pod_url_headers={"Metadata-Flavor": ["Google"]})
        static = StaticUrl(settings, "n1", FakeClock(), told.append)
        await static.look()
        await static.look()  # nothing new: nothing is told
        answers.append(f"kind: PodList\nitems:\n- {{{MANIFEST.replace(chr(10), ', ').rstrip(', ')}}}\n")
        await static.look()
        for text, problem in [("broken", "500"), ("", "zero-length data received"), ("kind: Service", "a v1 Pod is")]:
            answers.append(text)
            with pytest.raises(SettingsError, match=problem):
                await static.look()
    finally:
        await runner.cleanup()
    (made,) = told[0].values()
    assert (made["metadata"]["name"], made["metadata"]["annotations"]["kubernetes.io/config.source"]) == (
        "web-n1",
        "http",
    )
    assert [len(pods) for pods in told] == [1, 1, 0]
    assert set(seen) == {"Google"}


# -- one container restarts all ---------------------------------------------------------------------------------------

RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]


def test_one_container_restarts_all() -> None:
    source = container("a", restartPolicy="Never", restartPolicyRules=RULES)
    wanted = pod(source, container("b"), restartPolicy="Never", initContainers=[container("i")])
    holds = runtime(ran("b"), ended("a", 42), ended("i"))
    plan = plan_pod(wanted, holds, ProbeVerdicts())
    assert [status.name for status in plan.reset] == ["a"]
    assert not plan.is_empty
    assert [plan.start, plan.init, plan.kills] == [(), (), ()]
    told = conditions.all_restarting(wanted, holds, "Running")
    assert told == {
        "type": "AllContainersRestarting",
        "status": "True",
        "reason": "RestartAllContainersStarted",
        "message": "container exited with restart policy rule",
    }
    # When everything is gone, all begins again.
    again = plan_pod(wanted, runtime(), ProbeVerdicts())
    assert [c["name"] for c in again.init] == ["i"]
    assert conditions.all_restarting(wanted, runtime(), "Pending") == {
        "type": "AllContainersRestarting",
        "status": "False",
    }
    assert conditions.all_restarting(pod(), runtime(), "Running") is None


def test_a_pod_whose_containers_all_restart_has_not_failed() -> None:
    source = container("a", restartPolicyRules=RULES)
    wanted = pod(source, restartPolicy="Never")
    statuses = [{"name": "a", "state": {"terminated": {"exitCode": 42}}}]
    assert phase_of(wanted, statuses, is_terminal=False, has_initialized=True) == "Running"
    other = [{"name": "a", "state": {"terminated": {"exitCode": 1}}}]
    assert phase_of(wanted, other, is_terminal=False, has_initialized=True) == "Failed"
    told = conditions.all_restarting(wanted, runtime(ended("a", 1)), "Failed")
    assert told is not None
    assert (told["status"], told["reason"]) == ("False", "PodFailed")
