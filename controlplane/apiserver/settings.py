"""What an API server can be told: its flags, which are kube-apiserver's, as one validated value.

Source: kube-apiserver 1.36 --help.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one API server. Paths are as given; "" is "not set". Durations are seconds."""

    # storage
    etcd_servers: tuple[str, ...] = ()
    """URLs of etcd's members; empty: objects are kept in memory alone (tests, `navarch dev`)."""
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    etcd_prefix: str = "/registry"
    etcd_compaction_interval_seconds: float = 300
    """How often old revisions are dropped; 0: never by this server."""
    etcd_healthcheck_seconds: float = 2
    etcd_readycheck_seconds: float = 2
    """How long etcd may take to answer for the server to be live, and ready."""
    event_ttl_seconds: float = 3600

    # serving
    bind_address: str = "0.0.0.0"
    advertise_address: str = ""
    """Under which address others reach this server (Endpoints of `kubernetes`); "": the bind address, or the host's."""
    secure_port: int = 6443
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    tls_sni_cert_key: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Further certificates: files of certificate and key, and the host names they are shown for (none: their own)."""
    tls_min_version: str = ""
    """VersionTLS12 or VersionTLS13; "": TLS 1.2."""
    tls_cipher_suites: tuple[str, ...] = ()
    """By Go's names, for TLS 1.2; (): OpenSSL's choice."""
    cert_dir: str = "/var/run/kubernetes"
    """Where a self-signed certificate is put if none is given."""
    max_request_body_bytes: int = 3 * 1024 * 1024
    min_request_timeout_seconds: int = 1800
    """A watch without timeoutSeconds lives this long, up to twice that."""
    request_timeout_seconds: float = 60
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    """With priority and fairness the two together are the seats there are; without it each is a limit of its own."""
    shutdown_delay_seconds: float = 0
    """How long after SIGTERM requests are taken as before, while /readyz fails."""
    shutdown_send_retry_after: bool = False
    """Refuse what comes while the server finishes with 429 and Retry-After, instead of not listening any more."""
    shutdown_watch_termination_grace_seconds: float = 0
    """How long watches may go on after that."""
    external_hostname: str = ""
    strict_transport_security_directives: tuple[str, ...] = ()
    """What the header Strict-Transport-Security tells; without any there is no such header."""
    cors_allowed_origins: tuple[str, ...] = ()
    identity_lease_duration_seconds: int = 3600
    """For how long the server's own Lease is good; it is renewed every `identity_lease_renew_interval_seconds`."""
    identity_lease_renew_interval_seconds: int = 10
    endpoint_reconciler_type: str = "lease"
    """`lease` keeps the Endpoints of the Service `kubernetes`; `none` leaves them to others."""

    # authentication
    client_ca_file: str = ""
    token_auth_file: str = ""
    anonymous_auth: bool = True
    enable_bootstrap_token_auth: bool = False
    service_account_issuers: tuple[str, ...] = ()
    service_account_key_files: tuple[str, ...] = ()
    service_account_signing_key_file: str = ""
    service_account_jwks_uri: str = ""
    service_account_lookup: bool = True
    service_account_max_token_expiration_seconds: float = 0
    service_account_extend_token_expiration: bool = True
    api_audiences: tuple[str, ...] = ()
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: tuple[str, ...] = ()
    requestheader_username_headers: tuple[str, ...] = ()
    requestheader_uid_headers: tuple[str, ...] = ()
    requestheader_group_headers: tuple[str, ...] = ()
    requestheader_extra_headers_prefix: tuple[str, ...] = ()
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    authentication_token_webhook_config_file: str = ""
    authentication_config: str = ""
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_ca_file: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claim: tuple[tuple[str, str], ...] = ()
    oidc_signing_algs: tuple[str, ...] = ("RS256",)

    # authorisation
    authorization_modes: tuple[str, ...] = ("AlwaysAllow",)
    authorization_webhook_config_file: str = ""
    authorization_policy_file: str = ""
    authorization_config: str = ""

    # admission
    enable_admission_plugins: tuple[str, ...] = ()
    disable_admission_plugins: tuple[str, ...] = ()
    admission_control_config_file: str = ""
    allow_privileged: bool = False
    runtime_config: tuple[tuple[str, str], ...] = ()
    """Group versions (`batch/v1`, `api/beta`) and whether they are served."""

    # cluster
    service_cluster_ip_ranges: tuple[str, ...] = ("10.0.0.0/24",)
    """One range, or one of each family (dual stack), the first being the default family."""
    service_node_port_range: tuple[int, int] = (30000, 32767)
    """First and last port of a NodePort."""
    enable_aggregator_routing: bool = False
    components: tuple[str, ...] = ("scheduler", "controller-manager")
    """Those of this host whose health `kubectl get componentstatuses` asks for; no flag of upstream's."""

    # kubelets
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_certificate_authority: str = ""
    kubelet_preferred_address_types: tuple[str, ...] = (
        "Hostname",
        "InternalDNS",
        "InternalIP",
        "ExternalDNS",
        "ExternalIP",
    )
    kubelet_port: int = 10250
    kubelet_timeout_seconds: float = 5

    # observation
    audit_policy_file: str = ""
    audit_log_path: str = ""
    """`-` is standard output."""
    audit_log_maxage: int = 366
    """Days that rotated files are kept; 0: for ever."""
    audit_log_maxbackup: int = 100
    """Rotated files that are kept; 0: all."""
    audit_log_maxsize: int = 100
    """Megabytes after which the file is rotated."""
    audit_log_compress: bool = False
    audit_webhook_config_file: str = ""
    """kubeconfig of the server that events are sent to."""
    audit_webhook_batch_max_size: int = 400
    audit_webhook_batch_max_wait_seconds: float = 30
    encryption_provider_config: str = ""
    encryption_provider_config_automatic_reload: bool = False
    profiling: bool = True
    verbosity: int = 0
    flags: tuple[tuple[str, str], ...] = ()
    """The command line as it was understood, for /flagz."""
