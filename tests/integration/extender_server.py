"""A small scheduler extender: an HTTP or HTTPS server in a thread of the test."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any]], Any]


class ExtenderServer:
    """`answers`: by verb, a function of the question. It returns a tree, a status code, or bytes
    that are sent as they are in place of an answer of HTTP; a number below 60 is a sleep in
    seconds."""

    def __init__(
        self, answers: dict[str, Answer], pair: tuple[Path, Path] | None = None, port: int = 0
    ) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                verb, question = self.path.rpartition("/")[2], json.loads(body)
                server.asked.append((verb, question))
                found = server.answers[verb](question)
                if isinstance(found, bytes):
                    self.wfile.write(found)
                    self.close_connection = True
                    return
                if isinstance(found, int) and found < 60:
                    time.sleep(found)
                code = found if isinstance(found, int) and found >= 60 else 200
                data = json.dumps(found).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if pair is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}/scheduler"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> "ExtenderServer":
        self._thread.start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
