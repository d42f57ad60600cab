"""The audit log of one server: policy, where events go, and a trail for each request that is told of."""

from __future__ import annotations

from datetime import datetime

from controlplane.apiserver.audit import policy as policies
from controlplane.apiserver.audit.event import Trail
from controlplane.apiserver.audit.log import LogFile, Rotation
from controlplane.apiserver.audit.policy import NONE, Policy
from controlplane.apiserver.audit.webhook import WebhookSink
from controlplane.apiserver.authz.remote import from_kubeconfig
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.request import User
from controlplane.apiserver.settings import Settings
from machinery.clock import Clock


class Auditor:
    """Makes trails."""

    def __init__(self, policy: Policy, log: LogFile | None, webhook: WebhookSink | None, clock: Clock) -> None:
        self._policy = policy
        self._log = log
        self.webhook = webhook
        """Its `run` is to be run."""
        self._clock = clock
        self.events = 0
        """Written so far."""

    def begin(self, exchange: Exchange, user: User | None, *, long_running: bool) -> Trail | None:
        """The trail of a request whose user is recognised (None: not); None if nothing is told of it."""
        decision = self._policy.decide(user, exchange.info)
        if decision.level == NONE:
            return None
        trail = Trail(decision, exchange, self._write, self._now, long_running)
        trail.begin(user)
        return trail

    def _write(self, line: bytes) -> None:
        self.events += 1
        if self._log is not None:
            self._log.write(line)
        if self.webhook is not None:
            self.webhook.write(line)

    def _now(self) -> datetime:
        return self._clock.now()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()


def auditor(settings: Settings, clock: Clock) -> Auditor | None:
    """The auditor that the settings ask for; None if they don't. Raises SettingsError."""
    if not settings.audit_policy_file or not (settings.audit_log_path or settings.audit_webhook_config_file):
        return None
    policy = policies.load(settings.audit_policy_file)
    return Auditor(policy, _log_file(settings, clock), _webhook(settings), clock)


def _log_file(settings: Settings, clock: Clock) -> LogFile | None:
    if not settings.audit_log_path:
        return None
    rotation = Rotation(
        settings.audit_log_maxsize, settings.audit_log_maxbackup, settings.audit_log_maxage, settings.audit_log_compress
    )
    return LogFile(settings.audit_log_path, rotation, clock.now)


def _webhook(settings: Settings) -> WebhookSink | None:
    if not settings.audit_webhook_config_file:
        return None
    remote = from_kubeconfig(settings.audit_webhook_config_file, "--audit-webhook-config-file")
    return WebhookSink(remote, settings.audit_webhook_batch_max_size, settings.audit_webhook_batch_max_wait_seconds)
