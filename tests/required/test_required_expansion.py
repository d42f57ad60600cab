from __future__ import annotations

from cluster import Cluster, container, pod, requirement

pytest_plugins = ["cluster_fixture"]


@requirement(
    "[sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance] [Conformance]"
)
async def test_a(cluster: Cluster) -> None:
    ended = await cluster.run(pod("expands", container("echo", "$(A)", env=[{"name": "A", "value": "b"}])))
    assert (ended.phase, ended.log) == ("Succeeded", "b\n")
