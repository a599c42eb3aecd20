"""Flags that several commands share, what they mean, and how a command ends with an error."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def fail(message: str) -> NoReturn:
    """One line on standard error, status 2."""
    click.echo(f"refk8s: {message}", err=True)
    raise SystemExit(2)


resolv_conf = click.option(
    "--resolv-conf",
    default=None,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="How other names are resolved.  [default: /etc/resolv.conf]",
)

context = click.option(
    "--context",
    default="",
    metavar="NAME",
    help="The context of the kubeconfig.  [default: its current-context]",
)

network = click.option(
    "--network",
    default=None,
    type=click.Choice(["auto", "host-gw", "vxlan", "none"]),
    help="How packets reach the pods of other nodes (docker only).  [default: auto]",
)

_SERVER = (
    click.option(
        "--store",
        default=None,
        metavar="memory|sqlite:PATH|etcd://HOST:PORT",
        help="Where objects are stored.  [default: sqlite:DATA_DIR/store.db]",
    ),
    click.option(
        "--bind",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="The address where the API server listens; 0.0.0.0 for all addresses of this machine.",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=6443,
        show_default=True,
        help="The API server's port; 0 picks a free one.",
    ),
    click.option(
        "--data-dir",
        default=None,
        metavar="DIR",
        help="The directory of everything that survives a restart.  [default: ~/.refk8s]",
    ),
    click.option(
        "--kubeconfig",
        default=None,
        metavar="PATH",
        help="The administrator's kubeconfig to write; other entries are kept.  [default: DATA_DIR/kubeconfig]",
    ),
    click.option(
        "--event-ttl",
        default="1h",
        show_default=True,
        metavar="DURATION",
        help="How long an Event is kept after its last write.",
    ),
    click.option(
        "--authorization-mode",
        default="Node,RBAC",
        show_default=True,
        metavar="MODES",
        help="Who may do what: Node, RBAC, AlwaysAllow or AlwaysDeny, separated by commas.",
    ),
)


def server_flags(command: Command) -> Command:
    """The flags of the API server, for `refk8s run` and `refk8s apiserver`."""
    for option in reversed(_SERVER):
        command = option(command)
    return command


def check_server_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ServerOptions` for these flags, and the other flags unchanged."""
    from refk8s.components.listening import is_address
    from refk8s.components.options import (
        AUTHORIZATION_MODES,
        EVENT_TTL_SECONDS,
        parse_duration,
    )

    if not is_address(options["bind"]):
        fail(
            f"--bind {options['bind']}: not an IP address; use one of this machine's, or 0.0.0.0 for all of them"
        )
    ttl = options["event_ttl"]
    try:
        seconds = parse_duration(ttl)
    except ValueError:
        fail(f"--event-ttl {ttl}: not a duration; write it like 1h, 30m or 1h30m")
    if not EVENT_TTL_SECONDS[0] <= seconds <= EVENT_TTL_SECONDS[1]:
        fail(f"--event-ttl {ttl}: must be between 1s and 87600h")
    given = options["authorization_mode"]
    modes = tuple(given.split(","))
    if not set(modes) <= set(AUTHORIZATION_MODES) or len(set(modes)) < len(modes):
        fail(
            f"--authorization-mode {given}: must be some of {', '.join(AUTHORIZATION_MODES)}, "
            "each once, separated by commas"
        )
    flags = ("event_ttl", "authorization_mode")
    rest = {name: value for name, value in options.items() if name not in flags}
    return {**rest, "event_ttl_seconds": seconds, "authorization_modes": modes}
