"""What the conformance suite requires of containers' users, rights and kernel parameters ([sig-node])."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, container, pod, requirement, shell, shows
from components import python, python_image

from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.errors import Invalid

pytest_plugins = ["cluster_fixture"]

_USER_AND_GROUP = {"runAsUser": 1001, "runAsGroup": 2002}
_IDENTITY = "id; grep -E '^(Uid|Gid|Groups):' /proc/self/status"
_IDENTIFIED = (
    "uid=1001 gid=2002 groups=2002\nUid:\t1001\t1001\t1001\t1001\nGid:\t2002\t2002\t2002\t2002\nGroups:\t2002 \n"
)


@pytest.mark.parametrize(
    ("made", "spec", "log"),
    [
        shows(
            shell("id -u", securityContext={"runAsUser": 65534}),
            {},
            "65534\n",
            name="[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [NodeConformance] [Conformance]",
        ),
        shows(
            shell("ip link add dummy0 type dummy 2>&1 || true", securityContext={"privileged": False}),
            {},
            "ip: RTNETLINK answers: Operation not permitted\n",
            name="[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [NodeConformance] [Conformance]",
        ),
        shows(
            shell("touch checkfile && ls /checkfile", securityContext={"readOnlyRootFilesystem": False}),
            {},
            "/checkfile\n",
            name="[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [NodeConformance] [Conformance]",
        ),
        shows(
            shell("echo test > /file; true", securityContext={"readOnlyRootFilesystem": True}),
            {},
            "sh: can't create /file: Read-only file system\n",
            name="[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [NodeConformance] [Conformance]",
        ),
        shows(
            shell(_IDENTITY, securityContext=_USER_AND_GROUP),
            {},
            _IDENTIFIED,
            name="[sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]",
        ),
        shows(
            shell(_IDENTITY),
            {"securityContext": _USER_AND_GROUP},
            _IDENTIFIED,
            name="[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]",
        ),
        shows(
            container("sysctl", "kernel.shm_rmid_forced"),
            {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}},
            "kernel.shm_rmid_forced = 1\n",
            name="[sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [Environment:NotInUserNS] [Conformance]",
        ),
    ],
)
async def test_what_a_container_may(cluster: Cluster, made: Object, spec: dict[str, Any], log: str) -> None:
    ended = await cluster.run(pod("trial", made, **spec))
    assert (ended.phase, ended.log) == ("Succeeded", log)


@requirement(
    "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [NodeConformance] [Conformance]"
)
async def test_no_program_gives_more_privileges(cluster: Cluster) -> None:
    """A program of root's that sets its user does so only where privileges may grow."""
    image = await python_image(cluster)
    mounts = [{"name": "programs", "mountPath": "/programs"}]
    copy = "import os, shutil; shutil.copy('/usr/bin/python3.11', '/programs/py'); os.chmod('/programs/py', 0o4755)"
    made = await python(cluster, copy, name="copy", volumeMounts=mounts)

    def effective(allowed: bool) -> Object:
        script = "import os; print(os.getuid(), os.geteuid())"
        context = {"runAsUser": 1000, "allowPrivilegeEscalation": allowed}
        fields: dict[str, Any] = {"image": image, "securityContext": context, "volumeMounts": mounts}
        return container("/programs/py", "-c", script, name="allowed" if allowed else "refused", **fields)

    volumes = [{"name": "programs", "emptyDir": {}}]
    ended = await cluster.run(
        pod("escalation", effective(False), effective(True), initContainers=[made], volumes=volumes)
    )
    assert (ended.phase, ended.log) == ("Succeeded", "1000 1000\n")
    assert await cluster.log("escalation", "allowed") == "1000 0\n"


@requirement("[sig-node] Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls [Conformance]")
async def test_names_of_sysctls(cluster: Cluster) -> None:
    values = {"foo-": "bar", "kernel.shmmax": "100000000", "safe-and-unsafe": "100000000", "bar..": "42"}
    sysctls = [{"name": name, "value": value} for name, value in values.items()]
    with pytest.raises(Invalid) as refused:
        await cluster.create(PODS, pod("invalid", shell("true"), securityContext={"sysctls": sysctls}))
    told = str(refused.value)
    assert 'Invalid value: "foo-"' in told
    assert 'Invalid value: "bar.."' in told
    assert "safe-and-unsafe" not in told
    assert "kernel.shmmax" not in told
