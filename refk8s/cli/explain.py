"""`refk8s explain pod | object` (spec/explain.md)."""

from typing import Any

import click

from refk8s.cli.flags import Command, context, end, fail


@click.group(short_help="Say why: where a pod can run, and who wrote an object.")
def explain() -> None:
    """Say why a pod runs where it does or nowhere, and who wrote which field of an object.

    Any API server of a kubeconfig will do; nothing is changed.
    """


def _flags(command: Command) -> Command:
    for option in (
        click.option(
            "--output",
            "-o",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="The form.",
        ),
        context,
        click.option(
            "--kubeconfig",
            default=None,
            metavar="FILE",
            help="How the API server is reached.  [default: $KUBECONFIG, else ~/.refk8s/kubeconfig]",
        ),
    ):
        command = option(command)
    return command


def _split(place: str, example: str) -> tuple[str, str]:
    """(namespace, name) of NAMESPACE/NAME or NAME."""
    namespace, _, name = place.rpartition("/")
    if not name or "/" in namespace:
        fail(f"{place}: write it like {example}")
    return namespace or "default", name


@explain.command(short_help="Where a pod can run, by node and plugin.")
@_flags
@click.option(
    "--config",
    default="",
    metavar="FILE",
    help="The configuration of the scheduler.  [default: upstream's default profile]",
)
@click.argument("place", metavar="[NAMESPACE/]NAME")
def pod(place: str, **options: Any) -> None:
    """Print for each node which plugins of the scheduler reject the pod, or how they score it."""
    from refk8s.components.explain import ExplainOptions, explain_pod_now

    namespace, name = _split(place, "default/web")
    end(explain_pod_now, ExplainOptions(**options), namespace, name)


@explain.command("object", short_help="Who wrote which field of an object, and when.")
@_flags
@click.option(
    "--data-dir",
    default="",
    metavar="DIR",
    help="Add what the journal of this directory has, of a cluster that is stopped.",
)
@click.option(
    "--story",
    default="",
    metavar="FILE",
    help="Add the lines of this output of `refk8s run --story` that name the object.",
)
@click.argument("resource", metavar="RESOURCE")
@click.argument("place", metavar="[NAMESPACE/]NAME")
def object_(resource: str, place: str, **options: Any) -> None:
    """Print the fields of an object by the manager that wrote them, its owners, conditions and
    Events."""
    from refk8s.components.explain import ExplainOptions, explain_object_now

    namespace, name = _split(place, "default/web")
    end(explain_object_now, ExplainOptions(**options), resource, namespace, name)
