"""A new node's first certificate: with a token that may do little else, the kubelet asks to be the node that it is.

Source: TLS bootstrapping; kubelet's certificate/bootstrap/bootstrap.go.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent.kubelet.certificates.requests import CLIENT_SIGNER, CertificateRefused, Wanted, request
from agent.kubelet.certificates.store import CertificateStore
from agent.kubelet.flags import Options
from machinery import pki
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import SettingsError, StatusError, TransportError
from machinery.log import get_logger
from machinery.pki import PKIError
from machinery.settings import read_yaml

log = get_logger(__name__)

CLIENT = "kubelet-client"
_RETRY_SECONDS = 5.0


async def bootstrap(options: Options, clock: Clock) -> None:
    """Make the kubeconfig, if a bootstrap kubeconfig is given and there is no usable one. Raises SettingsError."""
    if not options.bootstrap_kubeconfig or not options.kubeconfig or _is_usable(options.kubeconfig):
        return
    if not os.path.exists(options.bootstrap_kubeconfig):
        missing = options.bootstrap_kubeconfig
        raise SettingsError(f"--bootstrap-kubeconfig: {missing} does not exist, nor a usable --kubeconfig")
    config = ClientConfig.from_kubeconfig(options.bootstrap_kubeconfig)
    store = CertificateStore(options.cert_dir, CLIENT)
    async with Client(config, user_agent="kubelet/v1.36") as client:
        while True:
            try:
                certificate, key = await request(client, Wanted(options.node_name, CLIENT_SIGNER), clock)
                break
            except (StatusError, TransportError, CertificateRefused) as error:
                log.error("cannot get a certificate for this node", err=str(error))
                await clock.sleep(_RETRY_SECONDS)
    store.write(certificate, key)
    _write_kubeconfig(options, config, store.current_path)
    log.info("node has its certificate", kubeconfig=options.kubeconfig)


def _is_usable(kubeconfig: str) -> bool:
    """Whether there is a kubeconfig whose certificate has not expired."""
    if not os.path.exists(kubeconfig):
        return False
    try:
        config = ClientConfig.from_kubeconfig(kubeconfig)
        if config.client_certificate is None:
            return bool(config.token or config.token_file)
        return pki.remaining(pki.load_certificates(config.client_certificate)[0]).total_seconds() > 0
    except (SettingsError, PKIError, IndexError) as error:
        log.warning("kubeconfig can't be used: bootstrapping again", kubeconfig=kubeconfig, err=str(error))
        return False


def _write_kubeconfig(options: Options, config: ClientConfig, current: Path) -> None:
    source = read_yaml(options.bootstrap_kubeconfig)[0]
    cluster = next(c["cluster"] for c in source["clusters"] if str(c["cluster"]["server"]).rstrip("/") == config.server)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": {"client-certificate": str(current), "client-key": str(current)}}],
        "contexts": [
            {
                "name": "default-context",
                "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
            }
        ],
        "current-context": "default-context",
        "preferences": {},
    }
    try:
        pki.write_file(Path(options.kubeconfig), json.dumps(document, indent=2).encode())  # JSON is YAML
    except OSError as error:
        raise SettingsError(f"cannot write {options.kubeconfig}: {error.strerror}") from error
