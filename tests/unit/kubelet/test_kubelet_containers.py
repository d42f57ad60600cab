"""What containers are made of: names, environment, resolver, limits, users, images and their credentials, logs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kubelet_values import container, pod, sized

from agent.cri import api_pb2 as pb
from agent.kubelet.backoff import Backoff
from agent.kubelet.container import (
    credentialproviders,
    dns,
    hostsfile,
    identity,
    logfile,
    pullsecrets,
    resources,
    security,
    termination,
)
from agent.kubelet.container.environment import known_services, service_variables
from agent.kubelet.container.errors import ContainerConfigError, StartError
from agent.kubelet.container.expansion import expand
from agent.kubelet.container.identity import CONFIG_SOURCE
from agent.kubelet.container.imagename import registry_and_path, with_default_tag
from agent.kubelet.container.logfile import LogOptions
from agent.kubelet.container.userns import UserNamespaces
from agent.kubelet.pods import fieldref, qos
from agent.kubelet.pods.fieldref import PodFacts
from machinery.api import quantity
from machinery.api.catalogue import SERVICES
from machinery.api.meta import Object
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A) $(B)", "a $(B)"),
        ("$$(A)", "$(A)"),
        ("$A", "$A"),
        ("$$$(A)", "$a"),
        ("$(A", "$(A"),
        ("100%", "100%"),
    ],
)
def test_variables_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "a"}) == expanded


def test_services_are_told_as_docker_links_told_them() -> None:
    service = {
        "metadata": {"name": "my-db", "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "sql", "port": 5432}, {"port": 53, "protocol": "UDP"}]},
    }
    found = service_variables([service])
    assert found["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert found["MY_DB_SERVICE_PORT"] == found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_5432_TCP"] == "tcp://10.0.0.9:5432"
    assert found["MY_DB_PORT_53_UDP_PROTO"] == "udp"


def test_fields_and_resources_of_a_pod() -> None:
    facts = PodFacts("n1", ("192.0.2.1", "2001:db8::1"), ("10.0.0.1",), {"cpu": quantity.parse("4")})
    own = pod(sized(requests={"cpu": "250m", "memory": "32Mi"}), metadata={"labels": {"b": '2"', "a": "1\n"}})
    assert fieldref.pod_field(own, "metadata.labels", facts) == 'a="1\\n"\nb="2\\""'
    assert fieldref.pod_field(own, "metadata.labels['a']", facts) == "1\n"
    odd = {"metadata": {"annotations": {"a": "\u00a0é\x01\U000e0001"}}, "spec": {}}
    assert fieldref.pod_field(odd, "metadata.annotations", facts) == 'a="\\u00a0é\\x01\\U000e0001"'
    assert fieldref.pod_field(own, "status.hostIPs", facts) == "192.0.2.1,2001:db8::1"
    with pytest.raises(ValueError, match="unsupported fieldPath"):
        fieldref.pod_field(own, "spec.color", facts)
    first = own["spec"]["containers"][0]
    assert fieldref.resource_field(own, first, {"resource": "requests.cpu"}, facts) == "1"
    assert fieldref.resource_field(own, first, {"resource": "requests.cpu", "divisor": "1m"}, facts) == "250"
    assert fieldref.resource_field(own, None, {"resource": "limits.cpu", "containerName": "c"}, facts) == "4"


def test_resolver_of_each_policy() -> None:
    host = dns.parse_resolv_conf("nameserver 192.0.2.53\nsearch example.org.\noptions edns0 # comment\n")
    cluster = dns.pod_config(pod(), host, ["10.96.0.10"], "cluster.local")
    assert cluster.servers == ("10.96.0.10",)
    assert cluster.searches == ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org")
    assert cluster.options == ("ndots:5",)
    assert dns.pod_config(pod(dnsPolicy="Default"), host, ["10.96.0.10"], "x").servers == ("192.0.2.53",)
    assert dns.pod_config(pod(hostNetwork=True), host, ["10.96.0.10"], "x").servers == ("192.0.2.53",)
    fallback = dns.pod_config(pod(), host, [], "x")
    assert fallback.warnings[0][0] == "MissingClusterDNS"
    own = {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}
    merged = dns.pod_config(pod(dnsConfig=own), host, ["10.96.0.10"], "x")
    assert (merged.servers, merged.options) == (("10.96.0.10", "1.1.1.1"), ("ndots:2",))
    many = dns.pod_config(pod(dnsPolicy="None", dnsConfig={"nameservers": ["1", "2", "3", "4"]}), host, [], "")
    assert many.servers == ("1", "2", "3")
    assert many.warnings[0][0] == "DNSConfigForming"


def test_lines_of_the_hosts_resolver_add_up_and_what_resolvers_can_not_take_is_left_out() -> None:
    host = dns.parse_resolv_conf("options ndots:1 rotate\nsearch old\nsearch a. .\noptions ndots:2\n")
    assert (host.options, host.searches) == (("ndots:2", "rotate"), ("a", "."))
    long = ".".join(["l" * 60] * 5)
    cut = dns.pod_config(pod(dnsPolicy="None", dnsConfig={"searches": ["a", long, "b"]}), host, [], "")
    assert cut.searches == ("a", "b")
    assert cut.warnings[0][1].endswith("the applied search line is: a b")


def test_without_a_resolver_of_the_host_clusters_names_are_looked_up_all_the_same() -> None:
    cluster = dns.pod_config(pod(), dns.host_config(""), ["10.96.0.10"], "c.local")
    assert cluster.searches == ("default.svc.c.local", "svc.c.local", "c.local")
    assert dns.pod_config(pod(dnsPolicy="Default"), dns.host_config(""), ["10.96.0.10"], "c.local").searches == (".",)
    own = pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True)
    assert dns.pod_config(own, dns.host_config(""), [], "c.local").warnings == (
        (
            "MissingClusterDNS",
            'pod: "p_default(uid-p)". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
            '"ClusterFirst" policy. Falling back to "Default" policy.',
        ),
    )


def test_host_names() -> None:
    assert hostsfile.host_name(pod(name="x" * 62 + ".y"), "c.local") == ("x" * 62, "")
    named = pod(hostname="h", subdomain="s")
    assert hostsfile.host_name(named, "c.local") == ("h", "s.default.svc.c.local")
    assert hostsfile.kernel_name({**named, "spec": {**named["spec"], "setHostnameAsFQDN": True}}, "c.local") == (
        "h.s.default.svc.c.local"
    )
    with pytest.raises(StartError, match="is too long"):
        hostsfile.kernel_name(pod(hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True), "c.local")
    assert "10.0.0.1\th.s.default.svc.c.local\th\n" in hostsfile.content(named, ["10.0.0.1"], "c.local", None)


def test_hash_of_a_container_is_upstreams() -> None:
    assert identity.fnv32a(b"") == 0x811C9DC5
    assert identity.fnv32a(b"foobar") == 0xBF9CF968
    assert identity.container_hash(container("a")) != identity.container_hash(container("b"))
    assert identity.container_hash(container("a")) == identity.container_hash(container("a", command=["x"]))


@pytest.mark.parametrize(
    ("requests", "limits", "kind"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
        ({"example.com/x": "1"}, {"example.com/x": "1"}, "BestEffort"),
    ],
)
def test_quality_of_service(requests: dict[str, str], limits: dict[str, str], kind: str) -> None:
    assert qos.qos_class(pod(sized(requests=requests, limits=limits))) == kind


def test_who_is_killed_first_when_memory_runs_out() -> None:
    best, most = container(), 16 << 30
    assert qos.oom_score_adj(pod(best), best, most) == 1000
    half = sized(requests={"memory": "8Gi"})
    assert qos.oom_score_adj(pod(half), half, most) == 500
    both = {"cpu": "1", "memory": "1Gi"}
    sure = sized(requests=both, limits=both)
    assert qos.oom_score_adj(pod(sure), sure, most) == -997
    assert qos.oom_score_adj(pod(best, priority=2_000_001_000), best, most) == -997


def test_a_sidecar_is_killed_no_sooner_than_the_first_of_those_that_it_serves() -> None:
    most = 16 << 30
    apps = [sized(name, requests={"memory": amount}) for name, amount in (("a", "4Gi"), ("b", "8Gi"))]
    small, large = (
        sized(name, requests={"memory": amount}) | {"restartPolicy": "Always"}
        for name, amount in (("small", "1Gi"), ("large", "12Gi"))
    )
    served = pod(*apps, initContainers=[small, large])
    assert [qos.oom_score_adj(served, c, most) for c in (*apps, small, large)] == [750, 500, 750, 250]


def test_what_the_pod_requests_as_a_whole_is_shared_by_its_containers() -> None:
    most = 16 << 30
    a, b = sized("a", requests={"memory": "2Gi"}), container("b")
    whole = pod(a, b, resources={"requests": {"memory": "6Gi"}})
    assert [qos.oom_score_adj(whole, c, most) for c in (a, b)] == [750, 875]


def test_limits_in_the_kernels_terms() -> None:
    assert [resources.cpu_shares(m) for m in (0, 1, 1000, 10**9)] == [2, 2, 1024, 262144]
    assert [resources.cpu_quota(m, 100_000) for m in (0, 1, 500)] == [0, 1000, 50_000]
    amounts = {"cpu": quantity.parse("500m"), "memory": quantity.parse("64Mi"), "hugepages-2Mi": quantity.parse("4Mi")}
    made = resources.of_amounts({}, amounts, resources.Rules())
    assert (made.cpu_shares, made.cpu_quota, made.memory_limit_in_bytes) == (512, 50_000, 64 << 20)
    assert [(h.page_size, h.limit) for h in made.hugepage_limits] == [("2MB", 4 << 20)]


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


def test_user_namespaces_are_apart_and_stay(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pods" / f"uid-{name}").mkdir(parents=True)
    ranges = UserNamespaces(str(tmp_path), 65536)
    assert ranges.of_pod(pod(name="a"), supported=False) is None
    with pytest.raises(StartError, match="runtime does not support user namespaces"):
        ranges.of_pod(pod(name="a", hostUsers=False), supported=False)
    first = ranges.of_pod(pod(name="a", hostUsers=False), supported=True)
    second = ranges.of_pod(pod(name="b", hostUsers=False), supported=True)
    assert first is not None
    assert second is not None
    assert (first.uids[0].host_id, second.uids[0].host_id, first.uids[0].length) == (65536, 131072, 65536)
    assert UserNamespaces(str(tmp_path), 65536).of_pod(pod(name="b", hostUsers=False), supported=True) == second


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("busybox", "busybox:latest"),
        ("r.example:5000/a/b:1", "r.example:5000/a/b:1"),
        ("a@sha256:" + "0" * 64, "a@sha256:" + "0" * 64),
    ],
)
def test_names_of_images(image: str, named: str) -> None:
    assert with_default_tag(image) == named


def test_wrong_names_of_images_are_told() -> None:
    with pytest.raises(ValueError, match="repository name must be lowercase"):
        with_default_tag("UPPER")
    with pytest.raises(ValueError, match="invalid reference format"):
        with_default_tag("a b")
    assert registry_and_path("busybox") == ("docker.io", "library/busybox")
    assert registry_and_path("localhost/x:1") == ("localhost", "x")


def test_credentials_fit_by_host_and_path() -> None:
    auth = base64.b64encode(b"user:secret").decode()
    auths = {
        "r.example/team": {"auth": auth},
        "r.example": {"username": "u", "password": "p"},
        "*.other": {"auth": auth},
    }
    document = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    sources = pullsecrets.from_secrets([{"data": {".dockerconfigjson": document}}, {"data": {".dockercfg": "!"}}])
    found = pullsecrets.credentials_for("r.example/team/app:1", sources)
    assert [(c.username, c.password) for c in found] == [("user", "secret"), ("u", "p")]
    assert [c.username for c in pullsecrets.credentials_for("a.other/x", sources)] == ["user"]
    assert pullsecrets.credentials_for("elsewhere/x", sources) == []


def _provider(directory: Path, script: str, **fields: object) -> Path:
    program = directory / "bin" / "login"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    entry = {
        "name": "login",
        "matchImages": ["*.example.com/team"],
        "defaultCacheDuration": "1h",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "env": [{"name": "WHO", "value": "me"}],
        **fields,
    }
    config = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [entry]}
    path = directory / "providers.yaml"
    path.write_text(json.dumps(config))
    return path


async def test_credential_providers_are_asked_once(tmp_path: Path) -> None:
    answer = '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",'
    answer += '"cacheKeyType":"Registry","auth":{"r.example.com":{"username":"\'$WHO\'","password":"p"}}}'
    path = _provider(tmp_path, f"cat >> {tmp_path}/asked; echo '{answer}'")
    providers = credentialproviders.CredentialProviders(credentialproviders.load(str(path), str(tmp_path / "bin")))
    for _ in range(2):
        assert await providers.auths("r.example.com/team/app:1") == [
            {"r.example.com": {"username": "me", "password": "p"}}
        ]
    assert await providers.auths("r.example.com/other/app:1") == []
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["kind"], asked["image"]) == ("CredentialProviderRequest", "r.example.com/team/app:1")


async def test_a_failing_provider_says_nothing(tmp_path: Path) -> None:
    path = _provider(tmp_path, "exit 1")
    providers = credentialproviders.CredentialProviders(credentialproviders.load(str(path), str(tmp_path / "bin")))
    assert await providers.auths("r.example.com/team/app:1") == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "missing"}, "did not exist"),
        ({"apiVersion": "v9"}, "apiVersion: 'v9'"),
        ({"matchImages": []}, "matchImages"),
        ({"defaultCacheDuration": "soon"}, "defaultCacheDuration"),
    ],
)
def test_wrong_provider_configurations_are_named(tmp_path: Path, fields: dict[str, object], told: str) -> None:
    path = _provider(tmp_path, "true", **fields)
    with pytest.raises(SettingsError, match=told):
        credentialproviders.load(str(path), str(tmp_path / "bin"))


LOG = b"""2026-01-01T00:00:00.1Z stdout F one
2026-01-01T00:00:01.2Z stderr P tw
2026-01-01T00:00:01.3Z stderr F o
2026-01-01T00:00:02.4Z stdout F three
"""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), b"one\ntwo\nthree\n"),
        (LogOptions(tail_lines=1), b"three\n"),
        (LogOptions(tail_lines=0), b""),
        (LogOptions(stream="Stderr"), b"two\n"),
        (LogOptions(limit_bytes=5), b"one\nt"),
        (LogOptions(since=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)), b"three\n"),
        (LogOptions(timestamps=True, tail_lines=1), b"2026-01-01T00:00:02.4Z three\n"),
    ],
)
async def test_logs_are_read_as_asked(tmp_path: Path, options: LogOptions, text: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LOG)
    assert b"".join([piece async for piece in logfile.read(str(path), options, lambda: False)]) == text


def test_last_words_from_the_log_or_the_file(tmp_path: Path) -> None:
    log, message = tmp_path / "0.log", tmp_path / "message"
    log.write_bytes(LOG)
    message.write_text("")
    status = pb.ContainerStatus(exit_code=1, log_path=str(log))
    status.annotations[identity.TERMINATION_MESSAGE_PATH] = "/dev/termination-log"
    status.annotations[identity.TERMINATION_MESSAGE_POLICY] = "FallbackToLogsOnError"
    status.mounts.add(container_path="/dev/termination-log", host_path=str(message))
    assert termination.message_of(status) == "one\ntwo\nthree\n"
    message.write_text("goodbye")
    assert termination.message_of(status) == "goodbye"
    message.unlink()
    message.symlink_to("/etc/passwd")
    assert "root:" not in termination.message_of(status)


def test_pauses_double_and_are_forgotten_after_a_quiet_time() -> None:
    now = [1000.0]
    backoff = Backoff(10, 300, lambda: now[0])
    assert [backoff.next("k") for _ in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.remaining("k", 1000.0) == 300
    now[0] += 200
    assert backoff.remaining("k", 1000.0) == 100
    now[0] += 1000
    assert backoff.next("k") == 10


def test_only_static_pods_start_before_services_are_known() -> None:
    """The API server itself may be the pod."""
    unsynced = Informers(Client(ClientConfig(server="https://192.0.2.1"), user_agent="test")).of(SERVICES)
    pod: Object = {"metadata": {"name": "a", "namespace": "n"}}
    with pytest.raises(StartError, match="services have not yet been read at least once"):
        known_services(unsynced, pod)
    static: Object = {"metadata": {"name": "a", "namespace": "n", "annotations": {CONFIG_SOURCE: "file"}}}
    assert list(known_services(unsynced, static)) == []
    assert list(known_services(None, pod)) == []
