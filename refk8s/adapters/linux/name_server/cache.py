"""The answers of other resolvers, kept while they are valid. Rule DNS-17 (spec/dns.md).

Source: RFC 1035 (TTL); RFC 2308, "Negative Caching of DNS Queries"; CoreDNS documentation, "cache".
"""

from collections import OrderedDict
from typing import TypeAlias

import dns.rcode
import dns.rdatatype
import dns.rrset
from attrs import evolve, frozen

from refk8s.adapters.linux.name_server.wire import Sections

Question: TypeAlias = tuple[str, int, bool]
"""The name in lower case, the type, and whether DNSSEC records are wanted."""

SECONDS_MAX = 30
"""The longest time for which an answer is kept (kubeadm's configuration of CoreDNS)."""
ENTRIES_MAX = 4096
BYTES_MAX = 4096  # of an answer that is kept


@frozen
class Kept:
    sections: Sections
    at: float  # seconds
    until: float


class Cache:
    """The kept answers; the one that was not used for longest is dropped first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Question, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, question: Question, now: float) -> Sections | None:
        """The answer, with the time that its records have left."""
        kept = self._kept.get(question)
        if kept is None:
            return None
        if kept.until <= now:
            del self._kept[question]
            return None
        self._kept.move_to_end(question)
        return _aged(kept.sections, int(now - kept.at))

    def keep(self, question: Question, sections: Sections, size: int, now: float) -> None:
        """Keep the answer, if it is valid for a time. `size`: its bytes."""
        seconds = lifetime(sections)
        if seconds <= 0 or size > BYTES_MAX:
            return
        self._kept[question] = Kept(sections, now, now + seconds)
        self._kept.move_to_end(question)
        if len(self._kept) > ENTRIES_MAX:
            self._kept.popitem(last=False)


def lifetime(sections: Sections) -> int:
    """For how many seconds the answer may be kept; 0: not at all."""
    if sections.code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return 0
    least = min((each.ttl for each in sections.answers), default=SECONDS_MAX)
    if sections.code == dns.rcode.NXDOMAIN or not _is_positive(sections):
        soa = [each for each in sections.authority if each.rdtype == dns.rdatatype.SOA]
        if not soa:
            return 0  # RFC 2308, 5: without an SOA record a negative answer is not kept
        least = min(least, *[min(each.ttl, each[0].minimum) for each in soa])
    return min(least, SECONDS_MAX)


def _is_positive(sections: Sections) -> bool:
    """Whether it has more than CNAMEs."""
    return any(each.rdtype != dns.rdatatype.CNAME for each in sections.answers)


def _aged(sections: Sections, seconds: int) -> Sections:
    if not seconds:
        return sections
    return evolve(
        sections,
        answers=tuple([_with_ttl(each, each.ttl - seconds) for each in sections.answers]),
        authority=tuple([_with_ttl(each, each.ttl - seconds) for each in sections.authority]),
    )


def _with_ttl(records: dns.rrset.RRset, seconds: int) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(records.name, max(0, seconds), list(records))
