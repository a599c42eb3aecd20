"""`--help` explains every command and every flag. Rule PROC-1 (spec/processes.md)."""

import re
from collections.abc import Iterator

import click
import pytest

from refk8s.cli.main import main

SENTENCES = re.compile(r"[A-Z$a-z0-9`].*\.(  \[default: .+\])?", re.S)
COMPONENTS = ("apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "dns")


def commands(command: click.Command, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command, and its words."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name="refk8s")
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{words} {name}".strip())


ALL = dict(commands(main))


@pytest.mark.parametrize("words", ALL)
def test_proc_1_help_explains_the_command_and_each_flag_in_sentences(words: str) -> None:
    # Shows PROC-1.c.
    command = ALL[words]
    assert SENTENCES.fullmatch((command.help or "").strip())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            said = (parameter.help or "").strip()
            assert SENTENCES.fullmatch(said) and not parameter.hidden, (parameter.opts, said)


def test_proc_1_each_component_is_a_command() -> None:
    assert set(COMPONENTS) <= ALL.keys()
    for name in COMPONENTS:
        flags = {flag for parameter in ALL[name].params for flag in parameter.opts}
        assert "--kubeconfig" in flags
