"""The credentials of a client, which are renewed while it runs. Rules CLIENT-9, CLIENT-10
(spec/client.md)."""

import asyncio
import base64
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from refk8s.components.client.tls import TlsContexts
from refk8s.core.client.kubeconfig import Access, Pem, Plugin

log = logging.getLogger("refk8s")

TOKEN_FILE_SECONDS = 60.0  # after which a token file is read again
TOKEN_BYTES_MAX = 64 << 10
PLUGIN_SECONDS = 60.0
PLUGIN_BYTES_MAX = 1 << 20
PLUGIN_RETRY_SECONDS = 5.0  # after a failure
EXPIRY_LEEWAY_SECONDS = 10.0  # before its expiration a token is renewed


class NoCredentials(Exception):
    """Why there are no credentials, in one line."""


@frozen
class Printed:
    """What a plug-in has printed."""

    token: str
    certificate: Pem
    key: Pem
    expires_at: float  # seconds since 1970; infinite if it says nothing


class Credentials:
    """The header `Authorization`, and the client certificate of new connections."""

    def __init__(self, access: Access, tls: TlsContexts, wall_time: Callable[[], float]) -> None:
        self._access = access
        self._tls = tls
        self._wall_time = wall_time
        self._loop = asyncio.get_running_loop()
        self._token = access.token
        self._token_read_at = -TOKEN_FILE_SECONDS
        self._printed: Printed | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[str], None]] = []
        self._failed_at = -PLUGIN_RETRY_SECONDS
        self._failure = ""

    @property
    def can_be_renewed(self) -> bool:
        """Whether new credentials may be had after a 401."""
        return self._access.plugin is not None or bool(self._access.token_file)

    @property
    def is_ready(self) -> bool:
        """Whether `authorization` can be asked; otherwise `renew` comes first."""
        if self._access.plugin is None:
            return True
        printed = self._printed
        return (
            printed is not None and self._wall_time() < printed.expires_at - EXPIRY_LEEWAY_SECONDS
        )

    def authorization(self) -> str:
        """The value of the header; empty without a token."""
        access = self._access
        if self._printed is not None and self._printed.token:
            return f"Bearer {self._printed.token}"
        if access.token_file and self._loop.time() >= self._token_read_at + TOKEN_FILE_SECONDS:
            self._read_token_file()
        if self._token:
            return f"Bearer {self._token}"
        if access.basic[0]:
            return "Basic " + base64.b64encode(":".join(access.basic).encode()).decode()
        return ""

    def reject(self) -> None:
        """The API server does not accept the present credentials."""
        self._printed = None
        self._token_read_at = -TOKEN_FILE_SECONDS

    def renew(self, then: Callable[[str], None]) -> None:
        """Renew what is not ready; `then` gets "" or why that failed."""
        if self.is_ready:
            self._loop.call_soon(then, "")
            return
        if self._loop.time() < self._failed_at + PLUGIN_RETRY_SECONDS:
            self._loop.call_soon(then, self._failure)
            return
        self._waiting.append(then)
        if self._renewal is None:
            self._renewal = self._loop.create_task(self._run_plugin())

    def close(self) -> None:
        """End a plug-in that runs."""
        self._waiting.clear()
        if self._renewal is not None:
            self._renewal.cancel()

    def _read_token_file(self) -> None:
        """Read the token again. A file that cannot be read leaves the token that was."""
        self._token_read_at = self._loop.time()
        try:
            with open(self._access.token_file, "rb") as file:
                text = file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
            if text and text.isprintable():
                self._token = text
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the token file %s cannot be read: %s", self._access.token_file, error)

    async def _run_plugin(self) -> None:
        assert self._access.plugin is not None
        problem = ""
        try:
            self._printed = await run_plugin(self._access.plugin)
            if self._printed.certificate:
                self._tls.use(self._printed.certificate, self._printed.key)
        except NoCredentials as error:
            problem = self._failure = str(error)
            self._failed_at = self._loop.time()
            log.warning("no credentials for the API server: %s", problem)
        finally:
            self._renewal = None
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(problem)


async def run_plugin(plugin: Plugin) -> Printed:
    """Run a credential plug-in. Raises NoCredentials."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    told = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    environment = {
        **os.environ,
        **dict(plugin.environment),
        "KUBERNETES_EXEC_INFO": json.dumps(told),
    }
    name = Path(plugin.command).name
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        raise NoCredentials(f"the plug-in {name} cannot be run: {error}") from None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PLUGIN_SECONDS):
            output = await _read_all(process.stdout, name)
            code = await process.wait()
    except TimeoutError:
        raise NoCredentials(
            f"the plug-in {name} did not end within {PLUGIN_SECONDS:.0f} s"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
    if code != 0:
        raise NoCredentials(f"the plug-in {name} ended with status {code}")
    return read_printed(output, plugin.api_version, name)


async def _read_all(stream: asyncio.StreamReader, name: str) -> bytes:
    output = bytearray()
    while data := await stream.read(1 << 16):
        output += data
        if len(output) > PLUGIN_BYTES_MAX:
            raise NoCredentials(f"the plug-in {name} printed more than {PLUGIN_BYTES_MAX} bytes")
    return bytes(output)


def read_printed(output: bytes, api_version: str, name: str) -> Printed:
    """The credentials in an ExecCredential. Raises NoCredentials, without the output, which may
    contain a secret."""
    try:
        tree = json.loads(output)
        status = tree["status"]
        said = (tree["kind"], tree["apiVersion"])
        token = status.get("token") or ""
        certificate = status.get("clientCertificateData") or ""
        key = status.get("clientKeyData") or ""
        expires = status.get("expirationTimestamp")
        expires_at = (
            datetime.fromisoformat(expires).astimezone(UTC).timestamp() if expires else float("inf")
        )
        is_good = (
            said == ("ExecCredential", api_version)
            and token.isascii()
            and (token.isprintable() or not token)
            and bool(certificate) == bool(key)
            and bool(token or certificate)
        )
        printed = Printed(
            token, Pem(content=certificate.encode()), Pem(content=key.encode()), expires_at
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        is_good = False
    if not is_good:
        raise NoCredentials(f"the plug-in {name} printed no ExecCredential of {api_version}")
    return printed
