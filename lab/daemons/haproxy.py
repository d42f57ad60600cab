"""HAProxy: one address for all API servers.

Source: https://docs.haproxy.org/2.6/configuration.html.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.topology import Host

CONFIG = "/etc/kubernetes/haproxy.cfg"
CA_FILE = "/etc/kubernetes/pki/ca.crt"
BACKEND_PORT = 6443


def command() -> list[str]:
    """In the foreground; checks its configuration first and refuses a wrong one."""
    return ["haproxy", "-db", "-f", CONFIG]


def configuration(binds: Sequence[str], control_planes: Sequence[Host]) -> str:
    """HAProxy's file; `binds` are where it listens, as its `bind` has them.

    A server that refuses a connection is passed over at once (redispatch); one whose /readyz fails twice in a row is
    taken out and its connections are ended, so that watches go on elsewhere.  No answer in 6 s is a failure: less would
    take out servers of a machine that is merely busy.  The only server is never taken out: there is no elsewhere.
    """
    listening = "\n".join(f"    bind {each}" for each in binds)
    servers = "\n".join(f"    server {host.name} {host.address}:{BACKEND_PORT}" for host in control_planes)
    return f"""\
global
    user haproxy
    group haproxy
    maxconn 8192
    log stdout format raw local0 notice
    stats socket /run/haproxy/admin.sock mode 600 level admin

defaults
    mode tcp
    log global
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 6s
    retries 3
    option redispatch 1
    option clitcpka
    option srvtcpka

frontend kubernetes
{listening}
    default_backend control-plane

backend control-plane
    balance leastconn
{_CHECKS if len(control_planes) > 1 else ""}{servers}
"""


_CHECKS = f"""\
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes
    http-check expect status 200
    default-server check check-ssl verify required ca-file {CA_FILE} verifyhost kubernetes inter 2s fastinter 1s \
fall 2 rise 1 observe layer4 error-limit 2 on-error mark-down on-marked-down shutdown-sessions
"""
