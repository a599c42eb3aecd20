"""The story (`refk8s run --story`): lines that somebody can read, and nothing remembered of what
has gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.story import Storyteller, short_name
from refk8s.core.ports import (
    ContainerConfig,
    CreateContainer,
    RemoveContainer,
    RemovePodSandbox,
    Rule,
    RuleSet,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    StopContainer,
    Target,
)


def teller():
    lines: list[str] = []
    return Storyteller(lambda: 0, lines.append), lines


def life(uid, containers):
    """What a kubelet asks for in the life of a pod, container by container."""
    yield RunPodSandbox(SandboxConfig(uid, "default", f"pod-{uid}"))
    for name in containers:
        yield CreateContainer("box", ContainerConfig(uid, "default", f"pod-{uid}", name, "image"))
        yield StartContainer(uid, f"id-{uid}-{name}")
    for name in containers:
        yield StopContainer(uid, f"id-{uid}-{name}", 30)
        yield RemoveContainer(uid, f"id-{uid}-{name}")
    yield RemovePodSandbox(uid, "box")


names = st.lists(st.sampled_from(["web", "log", "db"]), min_size=1, max_size=3, unique=True)


@given(
    st.dictionaries(st.sampled_from("abc"), names, min_size=1),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_containers_are_called_by_name_however_the_lives_of_pods_are_mixed_and_then_forgotten(
    pods, random, removed
):
    story, lines = teller()
    lives = [
        [op for op in life(uid, chosen) if removed or not isinstance(op, RemoveContainer)]
        for uid, chosen in sorted(pods.items())
    ]
    while lives:
        one = random.choice(lives)
        story.operated("node-1", one.pop(0))
        lives = [rest for rest in lives if rest]
    for uid, chosen in pods.items():
        for name in chosen:
            assert any(
                line.endswith(f"starts container {name} of pod default/pod-{uid}") for line in lines
            )
            assert any(
                f"stops container {name} of pod default/pod-{uid}: SIGTERM" in line
                for line in lines
            )
    assert not any("id-" in line for line in lines)
    assert not any(vars(story._names).values()), "a story that goes on for months must not grow"


def test_what_was_there_before_the_story_began_is_called_by_its_id():
    story, lines = teller()
    story.operated("node-1", StopContainer("uid-7", "0123456789abcdef", 5))
    assert "stops container 0123456789ab of pod uid-7" in lines[-1]


@pytest.mark.parametrize(
    ("targets", "words"),
    [(0, "has no service with endpoints"), (1, "to 1 endpoint"), (2, "to 2 endpoints")],
)
def test_rules_are_told_in_numbers_that_agree_with_their_nouns(targets, words):
    story, lines = teller()
    rule = Rule(
        "10.96.0.9", "TCP", 80, targets=tuple(Target(f"10.244.0.{n}", 80) for n in range(targets))
    )
    for _ in range(2):
        story.programmed("node-1", RuleSet({"default/web": (rule,)}))
    assert lines[-1].endswith(words) and len(lines) == 2, "the same line is not told twice in a row"


def test_speakers_have_names_that_people_use():
    assert short_name("kubernetes-admin") == "user"
    assert short_name("system:node:node-1") == "kubelet of node-1"
    assert (
        short_name("system:serviceaccount:kube-system:deployment-controller")
        == "deployment controller"
    )
    assert (
        short_name("system:serviceaccount:kube-system:generic-garbage-collector")
        == "garbage collector"
    )
    assert short_name("jane") == "jane"
