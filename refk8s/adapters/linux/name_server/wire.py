"""DNS messages: a query from bytes, and bytes from an answer. Rules DNS-12, DNS-13 (spec/dns.md).

Source: RFC 1035; RFC 2181; RFC 6891, "Extension Mechanisms for DNS"; RFC 9619.
"""

import struct
from functools import lru_cache

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from attrs import frozen

from refk8s.core.network.dns import Answer, RecordSet
from refk8s.core.ports import Labels

HEADER = struct.Struct("!HHHHHH")
QR, OPCODE, RD = 0x8000, 0x7800, 0x0100
PLAIN_SIZE = 512  # of an answer over UDP to a client without EDNS
EDNS_SIZE = 1232  # of an answer over UDP, whatever the client accepts: no packet is fragmented
TCP_SIZE = 65_535
REFUSED_TYPES = {dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.OPT, dns.rdatatype.TSIG}


@frozen
class Query:
    """A question that can be answered. `size`: the most bytes of the answer."""

    message: dns.message.Message
    name: dns.name.Name
    type: dns.rdatatype.RdataType
    labels: Labels
    size: int

    @property
    def type_name(self) -> str:
        return dns.rdatatype.to_text(self.type)


def read_query(data: bytes, tcp: bool = False) -> Query | bytes | None:
    """The query; or the bytes of the answer that refuses it; or None if it is not answered
    (DNS-12).

    Never raises an exception, whatever the bytes.
    """
    if len(data) < HEADER.size:
        return None
    _, flags, questions, answers, authorities, _ = HEADER.unpack_from(data)
    if flags & QR:
        return None  # an answer: two servers would answer each other for ever
    if flags & OPCODE:
        return refusal(data, dns.rcode.NOTIMP)
    if questions != 1 or answers or authorities:
        return refusal(data, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(data)
        question = message.question[0]
        labels = tuple([label.decode("latin-1").lower() for label in question.name.labels[:-1]])
    except Exception:  # the library documents some exceptions, and bytes can be anything
        return refusal(data, dns.rcode.FORMERR)
    if message.edns > 0:
        reply = dns.message.make_response(message)
        reply.use_edns(0, payload=EDNS_SIZE)
        reply.set_rcode(dns.rcode.BADVERS)
        return reply.to_wire()
    if question.rdclass != dns.rdataclass.IN or question.rdtype in REFUSED_TYPES:
        return refusal(data, dns.rcode.REFUSED)
    if tcp:
        size = TCP_SIZE
    elif message.edns == 0:
        size = min(max(message.payload, PLAIN_SIZE), EDNS_SIZE)
    else:
        size = PLAIN_SIZE
    return Query(message, question.name, question.rdtype, labels, size)


def refusal(data: bytes, code: dns.rcode.Rcode) -> bytes:
    """An answer without a question, for bytes of which only the header can be read."""
    id, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(id, QR | flags & (OPCODE | RD) | code, 0, 0, 0, 0)


@frozen
class Sections:
    """What an answer consists of, besides its question."""

    code: dns.rcode.Rcode
    answers: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    additional: tuple[dns.rrset.RRset, ...] = ()
    authoritative: bool = False


SERVFAIL = Sections(dns.rcode.SERVFAIL)
TOO_MANY = Sections(dns.rcode.REFUSED)


def sections_of(answer: Answer) -> Sections:
    """The sections of an answer about the cluster."""
    return Sections(
        dns.rcode.from_text(answer.code),
        _rrsets(answer.answers),
        _rrsets(answer.authority),
        _rrsets(answer.additional),
        authoritative=True,
    )


def _rrsets(sets: tuple[RecordSet, ...]) -> tuple[dns.rrset.RRset, ...]:
    return tuple(
        [
            dns.rrset.from_rdata_list(
                _name(each.name), each.ttl, [_rdata(each.type, text) for text in each.data]
            )
            for each in sets
        ]
    )


@lru_cache(4096)
def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


@lru_cache(16_384)
def _rdata(type: str, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text("IN", type, text)


def write_answer(query: Query, sections: Sections) -> bytes:
    """The bytes of the answer, at most as many as the client takes (DNS-13).

    The records of a name are in random order, as a client takes the first. The additional section
    is left out if it does not fit; if others do not, the answer says that it is truncated.
    """
    reply = dns.message.make_response(
        query.message, recursion_available=True, our_payload=EDNS_SIZE
    )
    reply.set_rcode(sections.code)
    if sections.authoritative:
        reply.flags |= dns.flags.AA
    reply.answer = list(sections.answers)
    reply.authority = list(sections.authority)
    reply.additional = list(sections.additional)
    return reply.to_wire(max_size=query.size, prefer_truncation=True)
