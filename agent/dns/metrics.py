"""The DNS server's metrics, under CoreDNS' names. Source: https://coredns.io/plugins/metrics/."""

from __future__ import annotations

import time

from prometheus_client import Counter

SERIAL = int(time.time())
"""Of the zones' SOA: when this server started."""

REQUESTS = Counter("coredns_dns_requests_total", "Counter of DNS requests made per protocol", ["proto"])
RESPONSES = Counter("coredns_dns_responses_total", "Counter of response status codes", ["rcode"])
CACHE_HITS = Counter("coredns_cache_hits_total", "The count of cache hits")
KEPT_HITS = Counter("navarch_dns_kept_answers_total", "Questions answered by bytes kept from the last time")
OVERLOADED = Counter("coredns_forward_max_concurrent_rejects_total", "Queries dropped because too many were in flight")
