"""`refk8s token`: bootstrap tokens of a running cluster. Rules TRUST-1, TRUST-5 (spec/trust.md)."""

import ipaddress
import secrets
import string
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import frozen

from refk8s.components.cluster_info import (
    WHERE,
    ClusterInfo,
    certificates_of,
    key_hash,
    read_info,
)
from refk8s.components.command_client import CommandClient, run_command
from refk8s.components.files import CannotRun
from refk8s.core.api import bootstrap_token
from refk8s.core.api.bootstrap_token import BootstrapToken, read_token, split_token
from refk8s.core.api.core_v1 import Secret
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import SECRETS
from refk8s.core.context import SECOND, Instant, timestamp

NODE_GROUP = f"{bootstrap_token.GROUP}:kubeadm:default-node-token"
"""The group whose members may request the certificate of a node, as with kubeadm."""
_ALPHABET = string.ascii_lowercase + string.digits
Print = Callable[[str], None]


@frozen
class TokenOptions:
    """The flags of `refk8s token`."""

    kubeconfig: str | None = None
    context: str = ""


def create_token(
    options: TokenOptions, ttl_seconds: float, description: str, join_command: bool, say: Print
) -> int:
    """Create a token and print it, or the command that joins a node with it. `ttl_seconds`: 0 for a
    token that does not expire. Returns the exit status; raises CannotRun."""

    async def work(client: CommandClient) -> None:
        info = await _info(client) if join_command else None
        id, word = ("".join(secrets.choice(_ALPHABET) for _ in range(length)) for length in (6, 16))
        data = {
            bootstrap_token.ID_KEY: id,
            bootstrap_token.SECRET_KEY: word,
            bootstrap_token.GROUPS_KEY: NODE_GROUP,
            f"{bootstrap_token.USAGE_PREFIX}{bootstrap_token.AUTHENTICATION}": "true",
            f"{bootstrap_token.USAGE_PREFIX}{bootstrap_token.SIGNING}": "true",
        }
        if ttl_seconds:
            expires_at = client.clock.now() + int(ttl_seconds * SECOND)
            data[bootstrap_token.EXPIRATION_KEY] = timestamp(expires_at)
        if description:
            data[bootstrap_token.DESCRIPTION_KEY] = description
        name = f"{bootstrap_token.SECRET_PREFIX}{id}"
        body = Secret(
            metadata=ObjectMeta(name=name, namespace=bootstrap_token.NAMESPACE),
            type=bootstrap_token.SECRET_TYPE,
            data={key: b64encode(text.encode()).decode() for key, text in data.items()},
        )
        request = Request("create", SECRETS, bootstrap_token.NAMESPACE, name, body=body)
        await client.call(request)
        say(f"{id}.{word}" if info is None else join_line(info, f"{id}.{word}"))

    return run_command(options.kubeconfig, options.context, work)


async def _info(client: CommandClient) -> ClusterInfo:
    """Where nodes join the cluster. Raises CannotRun."""
    found = await client.call(Request("get", *WHERE), 404)
    try:
        info = read_info((found.data or {})[bootstrap_token.INFO_KEY] if found else "")
        certificates_of(info.authority)
    except (ValueError, LookupError) as error:
        raise CannotRun(
            f"the API server publishes no usable kube-public/cluster-info: {error}"
        ) from None
    host = urlsplit(info.server).hostname or ""
    if is_loopback(host):
        raise CannotRun(
            f"the API server listens at {host}, where no other machine reaches it: "
            "start it with --bind 0.0.0.0"
        )
    return info


def join_line(info: ClusterInfo, token: str) -> str:
    """The command that joins a node."""
    hashes = " ".join(f"--ca-hash {key_hash(each)}" for each in certificates_of(info.authority))
    return f"refk8s node join {info.server} --token {token} {hashes}"


def is_loopback(host: str) -> bool:
    """Whether the host of a URL is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def list_tokens(options: TokenOptions, say: Print) -> int:
    """Print the tokens without their secrets. Returns the exit status; raises CannotRun."""

    async def work(client: CommandClient) -> None:
        selector = Options(field_selector=f"type={bootstrap_token.SECRET_TYPE}")
        request = Request("list", SECRETS, bootstrap_token.NAMESPACE, options=selector)
        found = [read_token(each) for each in (await client.call(request)).items]
        rows = [_row(each, client.clock.now()) for each in found if each is not None]
        for line in layout([("TOKEN ID", "EXPIRES", "USAGES", "GROUPS", "DESCRIPTION"), *rows]):
            say(line)

    return run_command(options.kubeconfig, options.context, work)


def _row(token: BootstrapToken, now: Instant) -> tuple[str, ...]:
    if token.expires_at is None:
        expires = "never"
    else:
        expires = "expired" if token.has_expired(now) else timestamp(token.expires_at)
    return (
        token.id,
        expires,
        ",".join(token.usages),
        ",".join(token.groups),
        "".join(letter for letter in token.description if letter.isprintable()),
    )


def layout(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def delete_token(options: TokenOptions, token: str, say: Print) -> int:
    """Delete a token by its id, or by the whole token. Returns the exit status; raises
    CannotRun."""
    id = split_token(token)[0] or token
    if split_token(f"{id}.{'0' * 16}")[0] != id:
        raise CannotRun(f"{id} is not the id of a bootstrap token: six small letters and digits")

    async def work(client: CommandClient) -> None:
        name = f"{bootstrap_token.SECRET_PREFIX}{id}"
        request = Request("delete", SECRETS, bootstrap_token.NAMESPACE, name)
        if await client.call(request, 404) is None:
            raise CannotRun(f"there is no bootstrap token {id}: refk8s token list")
        say(f"bootstrap token {id} is deleted")

    return run_command(options.kubeconfig, options.context, work)
