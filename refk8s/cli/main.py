"""The command line. Each command imports its modules when it runs, so `refk8s --help` is fast."""

import gc
import sys
from typing import Any

import click

from refk8s import __version__
from refk8s.cli.explain import explain as explain_group
from refk8s.cli.flags import check_server_flags, fail, network, resolv_conf, server_flags
from refk8s.cli.node import node
from refk8s.cli.processes import COMMANDS
from refk8s.cli.tokens import token


class Commands(click.Group):
    """A usage error ends with one line on standard error and status 2."""

    def main(self, *args: Any, **more: Any) -> Any:
        more["standalone_mode"] = False
        try:
            return super().main(*args, **more)
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except click.Abort:
            fail("interrupted")
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else "refk8s"
            fail(f"{error.format_message().rstrip('.')} (see {where} --help)")
        except click.ClickException as error:
            fail(error.format_message())


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="refk8s")
def main() -> None:
    """Kubernetes as one formally specified, readable transition system."""


@main.command()
@click.option(
    "--adapter",
    type=click.Choice(["auto", "docker", "fake"]),
    default="auto",
    show_default=True,
    help="Containers of a Docker engine, or simulated nodes. auto: docker if an engine answers.",
)
@click.option(
    "--nodes",
    type=click.IntRange(0, 5000),
    default=None,
    metavar="N",
    help="Simulated nodes (fake only).  [default: 1]",
)
@server_flags
@click.option(
    "--cluster-cidr",
    default="",
    metavar="CIDR[,CIDR]",
    help="The range of all pods, or one of each family.  [default: that of the adapter]",
)
@network
@resolv_conf
@click.option(
    "--config",
    default="",
    metavar="FILE",
    help="Profiles and plugins of the scheduler: a KubeSchedulerConfiguration.",
)
@click.option("--story", is_flag=True, help="Print each write with its reason.")
@click.option(
    "--keep", is_flag=True, help="Leave containers and service rules in place when stopped."
)
@click.option(
    "--apply",
    "manifests",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="Create the objects of this YAML file once ready. May be repeated.",
)
def run(**options: Any) -> None:
    """Run a cluster on this machine until Ctrl-C."""
    if options["adapter"] == "docker" and options["nodes"] not in (None, 1):
        fail(
            "--nodes is for simulated nodes: this machine is one node; "
            "leave it out or use --adapter fake"
        )
    gc.disable()  # until the cluster has started: the loading of modules creates little garbage
    from refk8s.components.files import CannotRun
    from refk8s.components.options import RunOptions
    from refk8s.components.range_flags import pod_ranges
    from refk8s.components.run import run_cluster

    try:
        pod_ranges(options["cluster_cidr"], ())
        sys.exit(run_cluster(RunOptions(**check_server_flags(options))))
    except CannotRun as reason:
        fail(str(reason))


@main.group(short_help="Remove this cluster from a kubeconfig.")
def kubeconfig() -> None:
    """This cluster's entries in a kubeconfig; `refk8s run --kubeconfig PATH` writes them."""


@kubeconfig.command(short_help="Remove the entries of refk8s; others are kept.")
@click.option(
    "--kubeconfig",
    "path",
    default=None,
    metavar="PATH",
    help="Which file.  [default: the one of $KUBECONFIG that exists, else ~/.kube/config]",
)
def remove(path: str | None) -> None:
    """Remove the cluster, user and context of refk8s; every other entry is kept."""
    import os
    from pathlib import Path

    from refk8s.components.files import CannotRun
    from refk8s.components.kubeconfig import default_path, remove_from_kubeconfig

    chosen = Path(path).expanduser() if path else default_path(os.environ)
    try:
        removed = remove_from_kubeconfig(chosen)
    except CannotRun as reason:
        fail(str(reason))
    click.echo(
        f"removed cluster refk8s from {chosen}" if removed else f"{chosen} has no entries of refk8s"
    )


@main.command()
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="S",
    help="The seed of every random choice.",
)
@click.option(
    "--steps",
    type=click.IntRange(0, 10_000_000),
    default=3_000,
    show_default=True,
    metavar="N",
    help="Actions before faults stop and the cluster must settle.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, 1_000),
    default=2,
    show_default=True,
    metavar="N",
    help="Simulated nodes.",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    metavar="N",
    help="Instances of the controller manager and of the scheduler; several elect a leader.",
)
@click.option(
    "--apiservers",
    type=click.IntRange(1, 9),
    default=2,
    show_default=True,
    metavar="N",
    help="API servers on one store; the memory of each may be behind it.",
)
@click.option(
    "--faults",
    default="all",
    show_default=True,
    metavar="WORDS",
    help="all, none, or names with rate and budget: crash=0.01:5,lose-answer,compact.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs of successive seeds.",
)
@click.option(
    "--replay",
    "replayed",
    default=None,
    metavar="RUN",
    help="Replay the actions of this file and print what happens.",
)
@click.option(
    "--save",
    default=None,
    metavar="RUN",
    help="Where to write a run that broke a rule.  [default: refk8s-seed-S.run]",
)
@click.option(
    "--no-shrink",
    "shorten",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not shorten a run that broke a rule.",
)
@click.option(
    "--pattern",
    type=click.Choice(["crash", "lag", "skip", "all"]),
    default=None,
    help="Instead of random faults, in one scenario: a crash after every write, every watch "
    "delayed, every change not delivered.",
)
@click.option(
    "--scenario",
    type=click.Choice(
        [
            "web",
            "statefulset",
            "daemonset",
            "job",
            "cronjob",
            "quota",
            "autoscaler",
            "stabilization",
            "gang",
            "disruption",
        ]
    ),
    default=None,
    help="Of --pattern, without files: which scenario.  [default: web]",
)
@click.argument("files", nargs=-1, metavar="[FILE.yaml]...")
def sim(**options: Any) -> None:
    """Simulate a cluster under faults, in virtual time.

    The objects in the FILEs are created first (without any: two Deployments and a Service). Exit
    status 1 if a rule broke.
    """
    from refk8s.cli.report import BadUse
    from refk8s.cli.sim import simulate_and_report

    try:
        sys.exit(simulate_and_report(**options))
    except BadUse as reason:
        fail(str(reason))


@main.command(short_help="Explore every interleaving of a small cluster.")
@click.option(
    "--faults",
    default="",
    metavar="WORDS",
    help="Budgets of faults: crash=1,lose=2.  [default: none]",
)
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="At most N steps from the start.",
)
@click.option(
    "--states", type=click.IntRange(1), default=None, metavar="N", help="Stop after N states."
)
@click.option(
    "--seconds", type=click.FloatRange(0), default=None, metavar="N", help="Stop after N seconds."
)
@click.option(
    "--save",
    default=None,
    metavar="FILE",
    help="Where to write a history that broke a rule.  [default: refk8s-explore-MODEL.run]",
)
@click.option(
    "--replay",
    "replayed",
    default=None,
    metavar="FILE",
    help="Replay the actions of this file on the reference.",
)
@click.argument("model", required=False)
def explore(**options: Any) -> None:
    """Explore every interleaving of a small cluster; without a MODEL, list them.

    Exit status 0: every state was reached and every rule held; 1: a rule broke; 3: undetermined, a
    bound stopped the search.
    """
    from refk8s.cli.explore import explore_and_report
    from refk8s.cli.report import BadUse

    try:
        sys.exit(explore_and_report(**options))
    except BadUse as reason:
        fail(str(reason))


for command in (*COMMANDS, token, node, explain_group):
    main.add_command(command)


if __name__ == "__main__":
    main()
