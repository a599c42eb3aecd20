"""The connection to the engine; no other module uses the client library.

Importing the library takes 140 ms, so import this module late. An error of the engine raises
`Refused` with its HTTP status and message; `Unreachable` means that no engine answers. Rule
STREAM-2: the library puts names and ids into paths without escaping, so they are checked first.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env

ANSWER_SECONDS_MAX = 120
CONNECTIONS_MAX = 32


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]*")


class Refused(Exception):
    """The engine answered with an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words

    @property
    def is_missing(self) -> bool:
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        return self.code == 409


class Unreachable(Exception):
    """No engine answers."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's exceptions into `Refused` and `Unreachable`."""
    try:
        yield
    except APIError as error:
        words = error.explanation
        words = (
            words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words or error)
        )
        raise Refused(error.status_code or 0, words.strip()) from None
    except (
        DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise Unreachable(str(error) or type(error).__name__) from None


class Engine:
    """Calls to one engine, from any thread. `call("start", id)` is the library's low-level method
    of that name."""

    def __init__(self) -> None:
        self._arguments = kwargs_from_env()
        with translated():
            self._api = self._client(ANSWER_SECONDS_MAX)

    def _client(self, timeout_seconds: int | None) -> Any:
        return docker.APIClient(
            version="auto",
            timeout=timeout_seconds,
            max_pool_size=CONNECTIONS_MAX,
            **self._arguments,
        )

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the engine's API that is used."""
        return tuple(int(part) for part in str(self._api.api_version).split(".") if part.isdigit())

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """One call. Raises Refused or Unreachable.

        Positional arguments are ids and names, which become part of a path.
        """
        for argument in arguments:
            if isinstance(argument, str) and (not _NAME.fullmatch(argument) or ".." in argument):
                raise Refused(400, "the name is not one of the container engine's")
        with translated():
            return getattr(self._api, method)(*arguments, **more)

    def found(self, method: str, *arguments: Any, **more: Any) -> Any:
        """The same; None if the engine answers 404."""
        try:
            return self.call(method, *arguments, **more)
        except Refused as error:
            if error.is_missing:
                return None
            raise

    def stream(self, open: Callable[[Any], Any]) -> Any:
        """A stream of the library over its own connection, without a read timeout."""
        with translated():
            return open(self._client(None))
