"""Requests of one connection that do not wait for one another. Rule HTTP-28 (spec/http.md).

Client and server agree on it in the TLS handshake (ALPN). On such a connection the client sends
requests ahead, and none of them depends on an earlier one, as if each had a connection of its own;
the server decides all that have arrived, and answers in the order of the requests. Source: RFC 7301
(ALPN); RFC 9112, section 9.3.2 (pipelining).
"""

from typing import Final

PROTOCOL: Final = "refk8s-independent-requests/2"
REQUESTS_MAX: Final = 64
"""Of one connection, without an answer. Another number needs another protocol: the server closes a
connection with more."""
