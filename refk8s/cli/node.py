"""`refk8s node join | leave` (spec/trust.md)."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from refk8s.cli.flags import fail
from refk8s.cli.processes import end, healthz_port, node_flags

TOKEN_VARIABLE = "REFK8S_TOKEN"
TOKEN_BYTES_MAX = 1024


@click.group(short_help="Join this machine to a cluster, or leave it.")
def node() -> None:
    """Make this machine, which has a Docker engine, a node of a cluster, or take it out again."""


@node.command(short_help="Join a cluster, and run the node.")
@click.argument("servers", nargs=-1, metavar="[https://HOST:PORT]...")
@click.option(
    "--token",
    default=None,
    metavar="TOKEN",
    help="A bootstrap token. Other users of this machine can read it in the list of processes for "
    "some tenths of a second; --token-file and $REFK8S_TOKEN are not shown there.",
)
@click.option(
    "--token-file",
    default=None,
    metavar="FILE",
    help="A file with the token; - for standard input.",
)
@click.option(
    "--ca-hash",
    "ca_hashes",
    multiple=True,
    metavar="sha256:HEX",
    help="The hash of the public key of the cluster's authority. May be repeated.",
)
@node_flags
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="PORT",
    help="The port of the kubelet, over HTTPS.  [default: 10250, or a free one if it is in use]",
)
@click.option(
    "--bind-address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address of /healthz, /readyz and /metrics.",
)
@healthz_port(10248)
def join(token: str | None, token_file: str | None, **options: Any) -> None:
    """Join the cluster of these API servers, and run this machine as its node until Ctrl-C.

    `refk8s token create --print-join-command` prints the command. One server is enough: the node
    learns the others, and uses them if this one cannot be reached. A later start needs no
    arguments: it uses the certificate that the first one has got.
    """
    from refk8s.components.node_join.process import JoinOptions, run_join
    from refk8s.components.process_list import hide_argument

    if token is not None and token_file is not None:
        fail("--token and --token-file: give one of them")
    if token is not None:
        hide_argument(token)
    elif token_file is not None:
        token = _read_token(token_file)
    else:
        token = os.environ.pop(TOKEN_VARIABLE, "")
    end(run_join, JoinOptions(token=token.strip(), **options))


def _read_token(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read(TOKEN_BYTES_MAX)
        with Path(path).expanduser().open() as file:
            return file.read(TOKEN_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        fail(f"--token-file {path}: {why}")


@node.command(short_help="Leave the cluster.")
@click.option(
    "--data-dir",
    default=None,
    metavar="DIR",
    help="The directory of `refk8s node join`.  [default: ~/.refk8s/node]",
)
@click.option(
    "--kubeconfig",
    default=None,
    metavar="FILE",
    help="The credentials of an administrator, who may delete the Node: ~/.refk8s/kubeconfig of the"
    " first machine.  [default: those of the node, which by default may not]",
)
@click.option("--context", default="", metavar="NAME", help="A context of the kubeconfig.")
def leave(data_dir: str | None, kubeconfig: str | None, context: str) -> None:
    """Delete this machine's Node, and remove its pods, networks, rules and certificates.

    `refk8s node join` must have been stopped. Pods are not drained: `kubectl drain` comes before.
    """
    from refk8s.components.node_join.leave import run_leave

    end(lambda directory: run_leave(directory, kubeconfig, context, click.echo), data_dir)
