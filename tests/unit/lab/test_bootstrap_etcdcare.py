"""What etcdctl's answers say, and what a host's manifest says of its member."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.bootstrap import etcdcare, phases
from lab.bootstrap.etcdcare import Flags, Member
from lab.bootstrap.reading import parse_configuration
from lab.errors import LabError

MEMBERS = "cp1=https://192.0.2.11:2380,cp2=https://192.0.2.12:2380"
CP1 = parse_configuration(
    [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "encryptionAlgorithm": "ECDSA-P256",
            "etcd": {"local": {"extraArgs": [{"name": "initial-cluster", "value": MEMBERS}]}},
        }
    ],
    "test",
).on_host("cp1", "192.0.2.11")


def test_the_manifest_says_who_the_members_are(tmp_path: Path) -> None:
    phases.initialise(CP1, tmp_path)
    flags = etcdcare.flags_of(tmp_path)
    assert (flags.name, flags.data_dir, flags.peer_url) == ("cp1", "/var/lib/etcd", "https://192.0.2.11:2380")
    assert flags.endpoints == ("https://192.0.2.11:2379", "https://192.0.2.12:2379")


def test_this_hosts_member_is_asked_first() -> None:
    flags = Flags("b", "/d", "https://b:2380", (("a", "https://a:2380"), ("b", "https://b:2380")))
    assert flags.endpoints == ("https://b:2379", "https://a:2379")


def test_without_a_manifest_there_is_no_member(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"etcd\.yaml: there is no such static pod"):
        etcdcare.flags_of(tmp_path)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("https://192.0.2.1:2380", "https://192.0.2.1:2379"),
        ("https://[2001:db8::1]:2380", "https://[2001:db8::1]:2379"),
    ],
)
def test_clients_go_to_another_port_of_the_same_host(peer: str, client: str) -> None:
    assert etcdcare.client_url(peer) == client


def test_members_are_read_also_those_that_have_not_started() -> None:
    told = {"members": [{"ID": 255, "name": "a", "peerURLs": ["p"], "clientURLs": ["c"]}, {"ID": 7, "peerURLs": ["q"]}]}
    assert etcdcare.parse_member_list(json.dumps(told)) == [Member(255, "a", ("p",), ("c",)), Member(7, "", ("q",), ())]


def test_a_status_tells_size_and_who_leads() -> None:
    header = {"member_id": 255, "revision": 12}
    status = {"header": header, "version": "3.4.23", "dbSize": 4096, "dbSizeInUse": 1024, "leader": 255}
    member = Member(255, "a", ("p",), ("c",))
    found = etcdcare.parse_status(member, json.dumps([{"Endpoint": "c", "Status": status}]), ("NOSPACE",))
    assert (found.healthy, found.leads, found.size_bytes, found.used_bytes) == (True, True, 4096, 1024)
    assert (found.revision, found.alarms) == (12, ("NOSPACE",))


def test_alarms_are_told_by_member() -> None:
    text = "memberID:10501334649042878790 alarm:NOSPACE \nmemberID:5 alarm:CORRUPT \nmemberID:5 alarm:NOSPACE \n"
    assert etcdcare.parse_alarms(text) == {10501334649042878790: ("NOSPACE",), 5: ("CORRUPT", "NOSPACE")}
    assert etcdcare.parse_alarms("") == {}
