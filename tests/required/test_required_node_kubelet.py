"""What the conformance suite requires of logs, hosts files and pods that fail ([sig-node] Kubelet)."""

from __future__ import annotations

from cluster import Cluster, container, eventually, pod, requirement, shell, sleeper

from machinery.api.catalogue import PODS

pytest_plugins = ["cluster_fixture"]


@requirement(
    "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [NodeConformance] [Conformance]"
)
async def test_output_goes_to_the_log(cluster: Cluster) -> None:
    script = "echo 'Hello World'; echo 'of errors' >&2; sleep 240"
    await cluster.start(pod("hello", shell(script)))

    async def told() -> bool:
        return sorted((await cluster.log("hello")).splitlines()) == ["Hello World", "of errors"]

    await eventually(told, "both streams in the log")


@requirement(
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [NodeConformance] [Conformance]"
)
async def test_failure_has_a_reason(cluster: Cluster) -> None:
    ended = await cluster.run(pod("fails", container("/bin/false")))
    (status,) = ended.pod["status"]["containerStatuses"]
    state = status["state"]["terminated"]
    assert (ended.phase, state["exitCode"], state["reason"]) == ("Failed", 1, "Error")


@requirement(
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [NodeConformance] [Conformance]"
)
async def test_failure_can_be_deleted(cluster: Cluster) -> None:
    made = pod("fails", container("/bin/false"))
    del made["spec"]["terminationGracePeriodSeconds"]
    await cluster.create(PODS, made)
    await cluster.delete(PODS, "fails")


@requirement(
    "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts [NodeConformance] [Conformance]"
)
async def test_host_aliases(cluster: Cluster) -> None:
    aliases = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    ended = await cluster.run(pod("aliases", container("cat", "/etc/hosts"), hostAliases=aliases))
    assert ended.log.endswith("\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n")


@requirement(
    "[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [NodeConformance] [Conformance]"
)
async def test_hosts_files(cluster: Cluster) -> None:
    volumes = [{"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "FileOrCreate"}}]
    original = {"name": "hosts", "mountPath": "/etc/hosts-original"}
    own = [sleeper(name=f"own-{number}", volumeMounts=[original]) for number in (1, 2)]
    mounted = sleeper(name="mounted", volumeMounts=[original, {"name": "hosts", "mountPath": "/etc/hosts"}])

    async def files(name: str, container: str) -> tuple[str, str]:
        hosts = await cluster.exec(name, "cat", "/etc/hosts", container=container)
        return hosts, await cluster.exec(name, "cat", "/etc/hosts-original", container=container)

    mark = "# Kubernetes-managed hosts file."
    made = await cluster.start(pod("isolated", *own, mounted, volumes=volumes))
    for each in ("own-1", "own-2"):
        hosts, before = await files("isolated", each)
        assert hosts.startswith(mark)
        assert hosts != before != ""
        assert f"{made['status']['podIP']}\tisolated\n" in hosts
    hosts, before = await files("isolated", "mounted")
    assert (hosts, hosts.startswith(mark)) == (before, False)
    await cluster.start(pod("sharing", *own, volumes=volumes, hostNetwork=True))
    for each in ("own-1", "own-2"):
        hosts, before = await files("sharing", each)
        # A pod on the host's network has a copy of the host's file, with a head of its own.
        assert hosts.startswith("# Kubernetes-managed hosts file (host network).\n")
        assert hosts.endswith(before)
