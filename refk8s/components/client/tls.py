"""The TLS context of new connections. It follows changes of the files of certificates and keys.
Rule CLIENT-9 (spec/client.md)."""

import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refk8s.core.client.independent import PROTOCOL
from refk8s.core.client.kubeconfig import Access, Pem

log = logging.getLogger("refk8s")

CHECK_SECONDS = 10.0


class TlsContexts:
    """Makes a context when its parts have changed. `certificate` and `key` may be replaced."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.certificate, self.key = access.certificate, access.key
        self.on_change: Callable[[], None] = lambda: None
        self._context: ssl.SSLContext | None = None
        self._made_of: tuple[object, ...] = ()
        self._checked_at = 0.0

    def context(self, now: float) -> ssl.SSLContext:
        """The context for a connection at this time in seconds. Raises OSError, ValueError."""
        if self._context is None:
            self._made_of = self._parts()
            self._context = self._make()
            self._checked_at = now
        self.check(now)
        return self._context

    def check(self, now: float) -> None:
        """Look for changes, every 10 seconds. What cannot be read leaves the context that is there
        (CLIENT-9)."""
        if self._context is None or now < self._checked_at + CHECK_SECONDS:
            return
        self._checked_at = now
        try:
            parts = self._parts()
            if parts != self._made_of:
                self._context, self._made_of = self._make(), parts
                self.on_change()
        except (OSError, ValueError) as error:
            log.warning("the certificates for the API server cannot be read again: %s", error)

    def use(self, certificate: Pem, key: Pem) -> None:
        """Use another client certificate for new connections."""
        if (certificate, key) != (self.certificate, self.key):
            self.certificate, self.key = certificate, key
            self._checked_at = -CHECK_SECONDS

    def _parts(self) -> tuple[object, ...]:
        """What the context is made of: the content of each part, or the state of its file."""
        return tuple(
            [
                pem.content or _state_of(pem.path)
                for pem in (self._access.authority, self.certificate, self.key)
            ]
        )

    def _make(self) -> ssl.SSLContext:
        authority = self._access.authority
        context = ssl.create_default_context(
            cafile=authority.path if authority.path and not authority.content else None,
            cadata=authority.content.decode("latin-1") if authority.content else None,
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([PROTOCOL, "http/1.1"])  # CLIENT-13; other servers choose HTTP
        if self._access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            with as_file(self.certificate) as certificate, as_file(self.key) as key:
                context.load_cert_chain(certificate, key, password=no_password)
        return context


def _state_of(path: str) -> object:
    if not path:
        return None
    found = os.stat(path)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def no_password() -> str:
    """Called for a key that is encrypted, instead of a question at the terminal."""
    raise ValueError("the key of the client certificate is encrypted")


@contextmanager
def as_file(pem: Pem) -> Iterator[str]:
    """The path of a file with this content, which exists for this user alone and only as long as
    the library reads it: it takes no key from memory."""
    if not pem.content:
        yield pem.path
        return
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("refk8s-pem", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem.content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem.content)
        file.flush()
        yield file.name
