"""A server in a container for the tests of Services: it answers over HTTP and UDP with the name of
its host, with what it was asked where the path begins with `/echo`, and at `/page` with a page that
has a link.

Its argument is a port. It needs no name server.
"""

import json
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = socket.gethostname()
PAGE = '<html><body><a href="/next">next</a></body></html>'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        kind, text = "text/plain", NAME
        if self.path.startswith("/echo"):
            asked = {"method": self.command, "path": self.path, "body": body}
            kind, text = "application/json", json.dumps(asked)
        elif self.path == "/page":
            kind, text = "text/html", PAGE
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_: Any) -> None:
        """No log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without asking for the name of the address, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = NAME, self.server_address[1]


def answer_datagrams(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("0.0.0.0", port))
        while True:
            _, sender = bound.recvfrom(1024)
            bound.sendto(NAME.encode(), sender)


if __name__ == "__main__":
    number = int(sys.argv[1])
    threading.Thread(target=answer_datagrams, args=(number,), daemon=True).start()
    Server(("0.0.0.0", number), Handler).serve_forever()
