"""Which pods each group of peers consists of, kept up to date one pod at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.network.policy.model import ALL_PODS, Pod, Pods, Policy


class PolicyState:
    """Policies, namespaces' labels, pods, and for every group that a policy names the pods that are in it."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.policies: dict[str, Policy] = {}
        self._pods: dict[str, Pod] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._groups: dict[Pods, set[str]] = {}

    # -- being told --------------------------------------------------------------------------------------------------

    def set_pod(self, key: str, pod: Pod | None) -> bool:
        """A pod has changed (None: gone); False if nothing here depends on how."""
        if self._pods.get(key) == pod:
            return False
        if pod is None:
            del self._pods[key]
        else:
            self._pods[key] = pod
        for group, members in self._groups.items():
            if pod is not None and group.matches(pod, self._namespaces.get(pod.namespace)):
                members.add(key)
            else:
                members.discard(key)
        return True

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """A namespace has other labels (None: is gone); False if nothing here depends on it."""
        if self._namespaces.get(name) == labels:
            return False
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        for group in self._groups:
            if group.namespaces is not None:
                self._groups[group] = self._select(group)
        return True

    def set_policy(self, key: str, policy: Policy | None) -> bool:
        """A policy has changed (None: is gone); False if it says what it said."""
        if self.policies.get(key) == policy:
            return False
        if policy is None:
            del self.policies[key]
        else:
            self.policies[key] = policy
        wanted = {group for each in self.policies.values() for group in _groups(each)}
        self._groups = {g: self._groups[g] if g in self._groups else self._select(g) for g in wanted}
        return True

    def _select(self, group: Pods) -> set[str]:
        found = self._pods.items()
        return {key for key, pod in found if group.matches(pod, self._namespaces.get(pod.namespace))}

    # -- looking up --------------------------------------------------------------------------------------------------

    def members(self, group: Pods) -> Iterator[Pod]:
        """The pods of a group."""
        return (self._pods[key] for key in self._groups.get(group, ()))

    def own_pods(self) -> Iterator[tuple[Pod, list[Policy]]]:
        """This node's pods with the policies that select them, by name; pods without are left out."""
        selected: dict[str, list[Policy]] = {}
        for _, policy in sorted(self.policies.items()):
            for key in self._groups.get(policy.selects, ()):
                if self._pods[key].node == self.node:
                    selected.setdefault(key, []).append(policy)
        for key, policies in sorted(selected.items()):
            yield self._pods[key], policies


def _groups(policy: Policy) -> Iterator[Pods]:
    yield policy.selects
    for rules in policy.rules.values():
        for rule in rules:
            yield from (peer for peer in rule.peers if isinstance(peer, Pods))
            if not rule.peers and any(port.name for port in rule.ports):
                yield ALL_PODS  # whose ports have that name
