"""The input of `iptables-restore --noflush`: chains anew, chains away, and jumps from the kernel's own chains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.proxy.iptables.saved import Saved
from agent.proxy.iptables.skeleton import ChainName, Jump, jump_rule

TABLES = ("filter", "nat")  # in this order, so that nothing is let through that is not translated

# Chains that belong to us by their names, those of other modes and of kube-proxy's earlier versions included.
# KUBE-FIREWALL, KUBE-IPTABLES-HINT and KUBE-KUBELET-CANARY are the kubelet's.
OWN_PREFIXES = (
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
    "KUBE-XLB-",
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-FIREWALL",
    "KUBE-HAIRPIN",
    "KUBE-FORWARD",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-",
    "KUBE-PROXY-CANARY",
)

Chains = Mapping[ChainName, tuple[str, ...]]


def restore_text(written: Chains, removed: Iterable[ChainName], extra: Mapping[str, list[str]] | None = None) -> bytes:
    """What gives `written` chains these rules and removes others; `extra` are lines of each table between the two."""
    gone = sorted(removed)
    lines: list[str] = []
    for table in TABLES:
        chains = sorted(name for name in written if name.table == table)
        unused = [name.chain for name in gone if name.table == table]
        between = (extra or {}).get(table, [])
        if not chains and not unused and not between:
            continue
        lines.append(f"*{table}")
        lines += [f":{name} - [0:0]" for name in sorted([*(c.chain for c in chains), *unused])]
        for chain in chains:
            lines += [f"-A {chain.chain} {rule}" for rule in written[chain]]
        lines += between
        lines += [f"-X {name}" for name in unused]
        lines.append("COMMIT")
    return "".join(line + "\n" for line in lines).encode()


def takeover_text(written: Chains, now: Saved, jumps: Sequence[Jump]) -> bytes:
    """What makes `written` and `jumps` the whole of what is ours in tables that hold `now`.

    A chain of another's that `jumps` lead to is left as it is; where there is none yet, it is made empty.
    """
    targets = {ChainName(jump.table, jump.target) for jump in jumps}
    written = {**written, **dict.fromkeys(targets - written.keys() - set(now.chains), ())}
    wanted = {ChainName(jump.table, f"{jump.source}>{jump.target}") for jump in jumps}
    missing = wanted - set(now.jumps)
    extra: dict[str, list[str]] = {table: [] for table in TABLES}
    for (chain, rule), target in zip(now.rules, now.targets, strict=True):
        jump = f"{chain.chain}>{target}"
        if chain.table in extra and target.startswith(OWN_PREFIXES) and ChainName(chain.table, jump) not in wanted:
            extra[chain.table].append(f"-D {chain.chain} {rule}")
    for each in jumps:
        if ChainName(each.table, f"{each.source}>{each.target}") in missing:
            extra[each.table].append(f"-I {each.source} 1 {jump_rule(each)}")
    stale = {c for c in now.chains if c.table in TABLES and c.chain.startswith(OWN_PREFIXES)} - written.keys()
    return restore_text(written, stale, extra)
