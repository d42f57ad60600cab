"""Corefiles: kubeadm's, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dns.configuration import Caching, Kubernetes, load, read, resolv_conf
from machinery.errors import SettingsError

KUBEADM = """
# as kubeadm writes it
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . 192.0.2.1 [2001:db8::1]:5353 {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_kubeadms_corefile_is_understood_as_a_whole() -> None:
    made = read(KUBEADM + 'stub.example:53 {\n  forward . "192.0.2.7"\n}\n')
    assert made.port == 53
    reverse = ("in-addr.arpa", "ip6.arpa")
    assert made.kubernetes == Kubernetes(("cluster.local", *reverse), "insecure", 30, reverse)
    assert made.upstreams == {"": (("192.0.2.1", 53), ("2001:db8::1", 5353)), "stub.example": (("192.0.2.7", 53),)}
    assert made.caching == Caching(30, 30)
    assert (made.health, made.ready, made.metrics) == (("", 8080), ("", 8181), ("", 9153))
    assert (made.lameduck_seconds, made.reload_seconds) == (5.0, 30.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no server block"),
        (".:53 {\n", "Corefile:1: the block that begins here does not end"),
        (".:53\n", "Corefile:1: expected {"),
        ("{\n}\n", "Corefile:1: a block needs the zones"),
        (".:53 {\n  rewrite name a b\n}\n", "Corefile:2: rewrite: not supported; known are cache, "),
        (".:53 {\n  errors }\n", "Corefile:2: } must be alone"),
        (".:53 {\n  cache { x\n}\n}\n", "Corefile:2: { must be at the end"),
        (".:dns {\n}\n", "Corefile:1: .:dns: is not ZONE:PORT"),
        ("tls://.:853 {\n}\n", "only plain DNS"),
        (".:53 {\n}\na:54 {\n}\n", "Corefile:3: a:54: all zones must have one port"),
        (".:53 {\n  forward .\n}\n", "Corefile:2: forward: needs a zone and at least one resolver"),
        (".:53 {\n  forward . nonsense\n}\n", "Corefile:2: forward: 'nonsense'"),
        (".:53 {\n  kubernetes {\n    pods some\n  }\n}\n", "Corefile:2: kubernetes: pods some: not supported"),
        (".:53 {\n  kubernetes {\n    ttl x\n  }\n}\n", "Corefile:2: kubernetes: ttl x: not supported"),
        (".:53 {\n  kubernetes\n  kubernetes\n}\n", "Corefile:3: kubernetes: there can be one only"),
        (".:53 {\n  cache 30 {\n    odd\n  }\n}\n", "Corefile:2: cache: odd: not supported"),
        (".:53 {\n  ready nowhere\n}\n", "Corefile:2: ready: 'nowhere' is not ADDRESS:PORT"),
        (".:{$PORT} {\n}\n", "environment variables are not supported"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as failed:
        read(text)
    assert complaint in str(failed.value)


def test_name_servers_come_from_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# none\nsearch a b\nnameserver 192.0.2.3\nnameserver 2001:db8::3%eth0\n")
    assert resolv_conf(file) == [("192.0.2.3", 53), ("2001:db8::3", 53)]
    assert resolv_conf(tmp_path / "missing") == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "Corefile")
