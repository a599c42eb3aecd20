"""What a name server counts, as Prometheus reads it. Rule DNS-20 (spec/dns.md).

Source: CoreDNS documentation, "prometheus", "cache"; Prometheus documentation, "Exposition
formats".
"""

import asyncio
import contextlib
from collections import Counter
from typing import TypeAlias

TYPES = frozenset(
    ("A", "AAAA", "ANY", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "SVCB", "TXT")
)
OTHER = "other"
HEAD_SIZE_MAX = 4096  # bytes of a request
SECONDS = 5.0  # for a request
Answered: TypeAlias = tuple[str, str, str, str]
"""(zone, udp or tcp, type, code) of an answer."""


class Metrics:
    """The counters of one name server."""

    def __init__(self) -> None:
        self.answered: Counter[Answered] = Counter()
        self.cache_hits = 0
        self.cache_misses = 0

    def text(self, cache_entries: int) -> bytes:
        """All counters, in the text format of Prometheus."""
        requests: Counter[tuple[str, str, str]] = Counter()
        responses: Counter[tuple[str, str]] = Counter()
        for (zone, protocol, type, code), count in self.answered.items():
            requests[zone, protocol, type] += count
            responses[zone, code] += count
        lines = [
            *_head("coredns_dns_requests_total", "counter", "Counter of DNS requests by zone, protocol and type."),
            *(f'coredns_dns_requests_total{{zone="{zone}",proto="{protocol}",type="{type}"}} {count}' for (zone, protocol, type), count in sorted(requests.items())),
            *_head("coredns_dns_responses_total", "counter", "Counter of DNS responses by zone and code."),
            *(f'coredns_dns_responses_total{{zone="{zone}",rcode="{code}"}} {count}' for (zone, code), count in sorted(responses.items())),
            *_head("coredns_cache_hits_total", "counter", "Counter of answers from the cache of other resolvers."),
            f'coredns_cache_hits_total{{zones="."}} {self.cache_hits}',
            *_head("coredns_cache_misses_total", "counter", "Counter of questions that other resolvers were asked."),
            f'coredns_cache_misses_total{{zones="."}} {self.cache_misses}',
            *_head("coredns_cache_entries", "gauge", "Number of answers in the cache of other resolvers."),
            f'coredns_cache_entries{{zones="."}} {cache_entries}',
        ]  # fmt: skip
        return "".join(f"{line}\n" for line in lines).encode()


def type_label(name: str) -> str:
    """The type as a label; there are few labels, whatever clients ask for."""
    return name if name in TYPES else OTHER


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


async def answer_http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> None:
    """Answer one request for the metrics, and close the connection."""
    with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            is_known = head.startswith((b"GET /metrics ", b"GET /metrics?"))
            status = b"200 OK" if is_known else b"404 Not Found"
            body = body if is_known else b""
            writer.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)
            )
            await writer.drain()
    writer.close()
