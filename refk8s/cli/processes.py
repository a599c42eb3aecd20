"""The components as processes of their own: `refk8s apiserver` and the others (spec/processes.md)."""

import sys
from typing import Any

import click

from refk8s.cli.flags import check_server_flags, fail, server_flags


@click.command(short_help="Run an API server on its own.")
@server_flags
@click.option(
    "--pki",
    default=None,
    metavar="DIR",
    help="The directory of the keys that all API servers of a cluster share.  [default: DATA_DIR/pki]",
)
def apiserver(**options: Any) -> None:
    """Run an API server without other components, until Ctrl-C."""
    from refk8s.components.apiserver_process import run_apiserver
    from refk8s.components.files import CannotRun
    from refk8s.components.options import ServerOptions

    try:
        sys.exit(run_apiserver(ServerOptions(**check_server_flags(options))))
    except CannotRun as reason:
        fail(str(reason))
