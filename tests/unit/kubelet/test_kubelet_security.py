"""Who runs in a container, and with what it may do."""

from __future__ import annotations

import pytest
from kubelet_values import container, pod

from agent.cri import api_pb2 as pb
from agent.kubelet.container import security
from agent.kubelet.container.errors import ContainerConfigError


def test_root_is_refused_where_it_must_not_be() -> None:
    def check(image: pb.Image, **own: object) -> None:
        wanted = container(securityContext={"runAsNonRoot": True, **own})
        security.of_container(pod(wanted), wanted, image, root_dir="/r", seccomp_default=False)

    check(pb.Image(), runAsUser=1000)
    check(pb.Image(uid=pb.Int64Value(value=7)))
    with pytest.raises(ContainerConfigError, match="runAsUser breaks non-root policy"):
        check(pb.Image(), runAsUser=0)
    with pytest.raises(ContainerConfigError, match="image will run as root"):
        check(pb.Image())
    with pytest.raises(ContainerConfigError, match=r"non-numeric user \(app\)"):
        check(pb.Image(username="app"))


@pytest.mark.parametrize(
    ("image", "own", "runs_as"),
    [
        (pb.Image(), {"runAsGroup": 5}, (0, "", 5)),
        (pb.Image(uid=pb.Int64Value(value=7)), {}, (7, "", None)),
        (pb.Image(username="app"), {"runAsGroup": 5}, (None, "app", 5)),
        (pb.Image(username="app"), {"runAsUser": 9}, (9, "", None)),
    ],
    ids=["nobody is root", "number", "name", "own"],
)
def test_the_runtime_is_told_who_runs(
    image: pb.Image, own: dict[str, int], runs_as: tuple[int | None, str, int | None]
) -> None:
    wanted = container(securityContext=own)
    made = security.of_container(pod(wanted), wanted, image, root_dir="/r", seccomp_default=False)
    user = made.run_as_user.value if made.HasField("run_as_user") else None
    group = made.run_as_group.value if made.HasField("run_as_group") else None
    assert (user, made.run_as_username, group) == runs_as


def test_security_context_reaches_the_runtime() -> None:
    own = container(
        securityContext={
            "capabilities": {"add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
            "procMount": "Unmasked",
        }
    )
    whole = pod(own, securityContext={"fsGroup": 5, "supplementalGroups": [6, 5]}, shareProcessNamespace=True)
    made = security.of_container(whole, own, pb.Image(), root_dir="/r", seccomp_default=True)
    assert list(made.capabilities.add_capabilities) == ["NET_ADMIN"]
    assert made.seccomp.localhost_ref == "/r/seccomp/p.json"
    assert list(made.supplemental_groups) == [5, 6]
    assert list(made.masked_paths) == []
    assert made.namespace_options.pid == pb.POD
    privileged = container(securityContext={"privileged": True})
    made = security.of_container(pod(privileged), privileged, pb.Image(), root_dir="/r", seccomp_default=True)
    assert made.seccomp.profile_type == pb.SecurityProfile.Unconfined
