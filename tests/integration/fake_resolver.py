"""A resolver for tests: it knows outside.example (A) and big.example (TXT, too large for UDP), and
prints each question. Run with the address at which it listens."""

import socket
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

TEXTS = [f'"{number:03d}{"x" * 200}"' for number in range(10)]
SOA = "example. 60 IN SOA ns.example. hostmaster.example. 1 2 3 4 60"


def reply_to(data: bytes, tcp: bool) -> bytes:
    query = dns.message.from_wire(data)
    question = query.question[0]
    name = question.name.to_text().lower()
    print("tcp" if tcp else "udp", name, dns.rdatatype.to_text(question.rdtype), flush=True)
    reply = dns.message.make_response(query, recursion_available=True)
    if name == "outside.example." and question.rdtype == dns.rdatatype.A:
        reply.answer = [dns.rrset.from_text(question.name, 300, "IN", "A", "192.0.2.77")]
    elif name == "big.example." and question.rdtype == dns.rdatatype.TXT:
        reply.answer = [dns.rrset.from_text(question.name, 300, "IN", "TXT", *TEXTS)]
    else:
        if name not in ("outside.example.", "big.example."):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority = [dns.rrset.from_text(*SOA.split(maxsplit=4))]
    return reply.to_wire(max_size=65_535 if tcp else 1232, prefer_truncation=True)


def serve_tcp(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as incoming:
            while size := incoming.read(2):
                reply = reply_to(incoming.read(int.from_bytes(size, "big")), True)
                connection.sendall(len(reply).to_bytes(2, "big") + reply)


def main(address: str) -> None:
    listener = socket.create_server((address, 53))
    threading.Thread(target=serve_tcp, args=(listener,), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        while True:
            data, client = server.recvfrom(4096)
            server.sendto(reply_to(data, False), client)


if __name__ == "__main__":
    main(sys.argv[1])
