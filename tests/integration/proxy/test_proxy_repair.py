"""The backends beside other users of the kernel's filters: repair of our rules, respect for theirs, and cleaning up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from proxy_hosts import PODS, PORT, Hosts

from agent.command import run
from agent.kubelet.node.utilchains import GUARDED, IPV4, restore_text
from agent.proxy.family import FamilyState
from agent.proxy.model import Backend, Endpoint, Family, PortRules, ServicePlan, ServicePortName
from agent.proxy.modes import clean_up, failures_of, make_backend
from agent.proxy.settings import RuleSettings

pytest_plugins = ["wired_hosts"]

IP = "10.96.0.10"
WEB = PortRules(
    ServicePortName("default", "web", "", "tcp"), port=80, cluster_ip=IP, cluster=(Endpoint(PODS["pod1"], PORT),)
)
RULES = {WEB.name: WEB}
BREAKAGE = {"nftables": "nft delete table ip kube-proxy", "iptables": "iptables -t nat -F KUBE-SERVICES"}
# The kubelet's chains are among what others have.
THEIRS = """
iptables-restore --noflush
nft add table inet theirs
nft add chain inet theirs output '{ type filter hook output priority 0; }'
iptables -t nat -N THEIRS
iptables -t nat -A OUTPUT -m comment --comment theirs -j THEIRS
"""


@pytest.fixture(params=["nftables", "iptables"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def backend(mode: str, hosts: Hosts) -> AsyncIterator[Backend]:
    yield make_backend(mode, RuleSettings(Family.IPV4))
    await clean_up(["nftables", "iptables"])
    hosts.spaces.run("node", "nft", "flush", "ruleset")


def rules_on(hosts: Hosts) -> str:
    lines = [
        *hosts.spaces.run("node", "iptables-save").splitlines(),
        hosts.spaces.run("node", "nft", "list", "tables", "inet"),
    ]
    # An empty table with its policies may stay.
    return "\n".join(line for line in lines if not line.startswith(("#", "*", "COMMIT")) and "ACCEPT [" not in line)


async def test_it_is_noticed_when_somebody_removes_our_rules_and_they_are_made_again(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    await backend.replace(RULES)
    assert not await backend.disturbed()
    hosts.spaces.run("node", "sh", "-c", BREAKAGE[mode])
    assert await backend.disturbed()
    await backend.replace(RULES)
    assert (await hosts.ask("pod2", IP, 80)).server == "pod1"
    assert not await backend.disturbed()


async def test_our_own_changes_do_not_count_as_disturbance(hosts: Hosts, backend: Backend) -> None:
    await backend.replace({})
    await backend.change(RULES)
    await backend.change({WEB.name: None})
    assert not await backend.disturbed()


async def test_rules_of_others_stay_as_they_are(hosts: Hosts, backend: Backend, mode: str) -> None:
    await run("sh", "-ec", THEIRS, stdin=restore_text(IPV4, GUARDED), check=True)
    before = rules_on(hosts)
    await backend.replace(RULES)
    await backend.change({WEB.name: None})
    await backend.replace(RULES)
    assert "THEIRS" in rules_on(hosts)
    assert await clean_up([mode])
    assert rules_on(hosts) == before


async def test_cleaning_up_leaves_nothing_and_may_be_repeated(hosts: Hosts, backend: Backend, mode: str) -> None:
    await backend.replace(RULES)
    assert await clean_up(["nftables", "iptables"])
    assert await clean_up(["nftables", "iptables"])
    left = [line for line in rules_on(hosts).splitlines() if "KUBE" in line]
    assert [line for line in left if "KUBE-FIREWALL" not in line] == []  # which is the kubelet's
    assert "kube-proxy" not in rules_on(hosts)


async def test_leftovers_of_another_proxy_are_removed_with_the_first_full_sync(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    leftovers = {
        "iptables": "iptables -t nat -N KUBE-SVC-LEFTOVER; iptables -t nat -N KUBE-SEP-LEFTOVER;"
        "iptables -t nat -A KUBE-SVC-LEFTOVER -j KUBE-SEP-LEFTOVER",
        # The same names with other types and hooks, as another version may have had them.
        "nftables": "nft add table ip kube-proxy;"
        "nft add map ip kube-proxy service-ips '{ type ipv4_addr : verdict; }';"
        "nft add chain ip kube-proxy nat-output '{ type nat hook output priority -90; }';"
        "nft add chain ip kube-proxy LEFTOVER",
    }
    hosts.spaces.run("node", "sh", "-ec", leftovers[mode])
    await backend.replace(RULES)
    held = hosts.spaces.run("node", "iptables-save") + hosts.spaces.run("node", "nft", "list", "ruleset")
    assert "LEFTOVER" not in held
    assert (await hosts.ask("pod2", IP, 80)).server == "pod1"


async def test_what_the_kernel_refuses_of_one_service_leaves_the_others_right(
    hosts: Hosts, backend: Backend, mode: str
) -> None:
    settings = RuleSettings(Family.IPV4)
    state = FamilyState(settings, backend, failures_of(mode))
    broken = replace(WEB, name=WEB.name._replace(name="broken"), cluster_ip="10.96.0.999")
    others = [replace(WEB, name=WEB.name._replace(name=f"w{n}"), cluster_ip=f"10.96.0.{n}") for n in range(20, 26)]
    plans = {port.name.service: ServicePlan((port,)) for port in (broken, *others)}
    changes = {name: rules for key, plan in plans.items() for name, rules in state.take(key, plan).items()}
    refused = await state.carry_out(changes)
    assert list(refused) == [broken.name]
    for rules in others:
        assert (await hosts.ask("pod2", rules.cluster_ip, 80)).server == "pod1"
    # It stays out of the way until it changes.
    state.stale = True
    assert await state.carry_out({}) == {}
    mended = replace(broken, cluster_ip="10.96.0.99")
    assert await state.carry_out(state.take(broken.name.service, ServicePlan((mended,)))) == {}
    assert (await hosts.ask("pod2", "10.96.0.99", 80)).server == "pod1"


async def test_ten_thousand_endpoints_of_one_service_do_not_hold_up_the_others(hosts: Hosts, backend: Backend) -> None:
    many = tuple(Endpoint(f"10.{200 + n // 65536}.{n // 256 % 256}.{n % 256}", PORT) for n in range(10_000))
    crowd = replace(WEB, name=WEB.name._replace(name="crowd"), cluster_ip="10.96.0.30", cluster=many)
    await backend.replace({crowd.name: crowd})
    await backend.change(RULES)
    assert (await hosts.ask("pod2", IP, 80)).server == "pod1"
    await backend.change({crowd.name: replace(crowd, cluster=WEB.cluster)})
    assert (await hosts.ask("pod2", "10.96.0.30", 80)).server == "pod1"
