"""The IPVS leg of the packet suite: the same tests, inside a guest whose kernel has IPVS."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from uml_guest import run_in_guest

MODULES = (
    *("ip_vs", "ip_vs_rr", "ip_vs_lc", "dummy", "veth", "bridge", "br_netfilter"),
    *("ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_bitmap_port"),
    *("iptable_nat", "iptable_filter", "ip6table_nat", "ip6table_filter", "xt_set", "xt_MASQUERADE", "xt_mark"),
    *("xt_addrtype", "xt_conntrack", "xt_comment", "xt_tcpudp", "xt_statistic", "ipt_REJECT", "ip6t_REJECT", "xt_nat"),
    "nf_conntrack_netlink",
)
SUITE = ("test_proxy_packets.py", "test_proxy_flows.py", "ipvs_cases.py")


# A kernel boots and runs some forty tests of real connections in about 100 s of CPU: ptrace is slow, and it is the
# only way to IPVS where the machine's kernel has none.
@pytest.mark.timeout(420)
def test_the_packet_suite_holds_in_ipvs_mode(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [
        *("env", "NAVARCH_PROXY_MODES=ipvs", sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(str(here / name) for name in SUITE),
    ]
    status, said = run_in_guest(command, MODULES, tmp_path, 400)
    assert status == 0, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) >= 30
    assert "skipped" not in said
