"""`refk8s token create | list | delete` (spec/trust.md)."""

import click

from refk8s.cli.flags import Command, context, end, fail

TTL_SECONDS_MAX = 10 * 365 * 86_400


@click.group(short_help="Bootstrap tokens, with which nodes join a cluster.")
def token() -> None:
    """Bootstrap tokens of a running cluster, with which nodes join it."""


def _flags(command: Command) -> Command:
    for option in (
        context,
        click.option(
            "--kubeconfig",
            default=None,
            metavar="FILE",
            help="An administrator's.  [default: $KUBECONFIG, else ~/.refk8s/kubeconfig]",
        ),
    ):
        command = option(command)
    return command


@token.command(short_help="Create a token.")
@_flags
@click.option(
    "--ttl",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long the token is valid; 0 for ever.",
)
@click.option(
    "--description", default="", metavar="TEXT", help="What the token is for, in `token list`."
)
@click.option(
    "--print-join-command",
    "join_command",
    is_flag=True,
    help="Print the command that joins a node, which has the token in it.",
)
def create(
    kubeconfig: str | None, context: str, ttl: str, description: str, join_command: bool
) -> None:
    """Create a token and print it. Who has it can join nodes until it expires."""
    from refk8s.components.options import parse_duration
    from refk8s.components.tokens import TokenOptions, create_token

    try:
        seconds = 0.0 if ttl == "0" else parse_duration(ttl)
    except ValueError:
        fail(f"--ttl {ttl}: not a duration; write it like 24h, 30m or 1h30m")
    if not 1 <= seconds <= TTL_SECONDS_MAX and ttl != "0":
        fail(f"--ttl {ttl}: must be between 1s and 87600h, or 0 for ever")
    end(create_token, TokenOptions(kubeconfig, context), seconds, description, join_command)


@token.command("list", short_help="List the tokens.")
@_flags
def list_(kubeconfig: str | None, context: str) -> None:
    """List the tokens, without their secrets."""
    from refk8s.components.tokens import TokenOptions, list_tokens

    end(list_tokens, TokenOptions(kubeconfig, context))


@token.command(short_help="Delete a token.")
@_flags
@click.argument("id")
def delete(kubeconfig: str | None, context: str, id: str) -> None:
    """Delete the token with this ID, so that no machine can join with it. Joined nodes stay."""
    from refk8s.components.tokens import TokenOptions, delete_token

    end(delete_token, TokenOptions(kubeconfig, context), id)
