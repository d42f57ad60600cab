"""How the server reaches kubelets: at which address of a node, and with which certificate.

Source: pkg/kubelet/client/kubelet_client.go.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from controlplane.apiserver.handlers.hijack import Peer
from controlplane.apiserver.settings import Settings
from machinery.api.meta import Object, name_of
from machinery.errors import InternalError, SettingsError


@dataclass
class Kubelets:
    """Connections to kubelets as the settings have it."""

    settings: Settings
    _tls: ssl.SSLContext | None = field(default=None, init=False)
    _unverified: ssl.SSLContext | None = field(default=None, init=False)

    @property
    def tls(self) -> ssl.SSLContext:
        """TLS with the server's client certificate, made once. Raises SettingsError."""
        if self._tls is None:
            self._tls = self._context()
        return self._tls

    def _context(self) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        try:
            if settings.kubelet_certificate_authority:
                context.load_verify_locations(settings.kubelet_certificate_authority)
            else:
                # as upstream without --kubelet-certificate-authority: kubelets' certificates may be self-signed
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if settings.kubelet_client_certificate:
                context.load_cert_chain(settings.kubelet_client_certificate, settings.kubelet_client_key)
        except (ssl.SSLError, OSError) as exc:
            raise SettingsError(f"--kubelet-client-certificate, --kubelet-certificate-authority: {exc}") from exc
        return context

    @property
    def unverified(self) -> ssl.SSLContext:
        """TLS to pods and services, whose certificates nobody here can vouch for."""
        if self._unverified is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._unverified = context
        return self._unverified

    def peer(self, node: Object) -> Peer:
        """Where a node's kubelet listens. Raises InternalError when the node tells no address."""
        status = node.get("status") or {}
        known = [a for a in status.get("addresses") or () if a.get("address")]
        for kind in self.settings.kubelet_preferred_address_types:
            for address in known:
                if address.get("type") == kind:
                    return Peer(address["address"], self._port(status), self.tls)
        told = ", ".join(f"{a.get('type')}:{a['address']}" for a in known)
        raise InternalError(
            f"Internal error occurred: no preferred addresses found for node {name_of(node)}; known addresses: [{told}]"
        )

    def _port(self, status: Object) -> int:
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        port = endpoint.get("Port") or self.settings.kubelet_port
        return int(port)
