"""Pulls: what is there waits for nothing, a registry holds up its own images only. Rule RT-33."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refk8s.adapters.linux.pulls import FETCHES_MAX, PER_REGISTRY_MAX, Pulls, registry_of
from refk8s.core.ports import Failed, ImagePulled, PullImage, Result

THERE = "there:1"
SILENT, TALKING = "silent.example", "talking.example"
IMAGES = st.sampled_from(
    [THERE, *[f"{host}/app{n}:1" for host in (SILENT, TALKING, "docker") for n in range(5)]]
)


class ByHand:
    """Work that is done when a test says so."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def put_aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        if self.at_once:
            then(work())
        else:
            self.waiting.append((work, then))


class Node:
    """One node's pulls; the silent registry never answers."""

    def __init__(self) -> None:
        self.answers: dict[int, Result] = {}
        self.fetched: list[str] = []
        self.fetchers = ByHand()
        self.pulls = Pulls(ByHand(at_once=True), self.fetchers, self.look, self.fetch)
        self.asked = 0

    def look(self, operation: PullImage) -> Result | None:
        return ImagePulled("sha256:1", False) if operation.image == THERE else None

    def fetch(self, operation: PullImage) -> Result:
        self.fetched.append(operation.image)
        return ImagePulled("sha256:2", True)

    def pull(self, pod: str, image: str, policy: str = "IfNotPresent") -> int:
        number = self.asked
        self.asked += 1

        def done(result: Result) -> None:
            assert number not in self.answers, "answered twice"
            self.answers[number] = result

        self.pulls.pull(PullImage(pod, image, policy), done)
        return number

    def answer(self) -> None:
        """Every fetch that has begun ends, but for those of the silent registry."""
        while talking := [
            entry for entry in self.fetchers.waiting if SILENT not in self.image(entry)
        ]:
            for work, then in talking:
                self.fetchers.waiting.remove((work, then))
                then(work())

    def image(self, entry: tuple[Callable[[], Any], Any]) -> str:
        """The image that a piece of work is about, without doing it."""
        operation: PullImage = entry[0].__defaults__[0]  # type: ignore[attr-defined]
        return operation.image


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("pull"),
            st.sampled_from("abc"),
            IMAGES,
            st.sampled_from(["Always", "IfNotPresent"]),
        ),
        st.tuples(st.just("forget"), st.sampled_from("abc")),
        st.tuples(st.just("answer")),
    ),
    max_size=40,
)


@given(STEPS)
def test_rt_33_a_silent_registry_holds_up_nothing_but_its_own_images(
    steps: list[tuple[str, ...]],
) -> None:
    # Shows RT-33.a RT-33.c RT-33.d.
    node = Node()
    asked: dict[int, tuple[str, str]] = {}
    gone: set[int] = set()
    for step in steps:
        if step[0] == "pull":
            number = node.pull(step[1], step[2], step[3])
            asked[number] = (step[1], step[2])
            if step[2] == THERE:
                assert number in node.answers, "an image that is there waits"
        elif step[0] == "forget":
            node.pulls.forget(step[1])
            gone |= {number for number, (pod, _) in asked.items() if pod == step[1]}
            assert gone <= set(node.answers), "a pod that is gone still waits"
        else:
            node.answer()
        busy = [registry_of(node.image(entry)) for entry in node.fetchers.waiting]
        assert (
            all(busy.count(registry) <= PER_REGISTRY_MAX for registry in busy)
            and len(busy) <= FETCHES_MAX
        )
    node.answer()
    silent = {number for number, (_, image) in asked.items() if image.startswith(SILENT)}
    assert set(asked) - set(node.answers) == silent - gone
    assert all(
        isinstance(node.answers[number], ImagePulled) for number in set(asked) - silent - gone
    )


def test_rt_33_one_fetch_serves_all_who_wait_and_none_is_begun_for_nobody() -> None:
    # Shows RT-33.b RT-33.e.
    node = Node()
    for pod in "abc":
        node.pull(pod, "app:1")
    node.answer()
    assert node.fetched == ["app:1"] and len(node.answers) == 3
    for number in range(PER_REGISTRY_MAX + 1):
        node.pull(f"p{number}", f"more{number}:1")
    node.pulls.forget(f"p{PER_REGISTRY_MAX}")
    assert isinstance(node.answers[3 + PER_REGISTRY_MAX], Failed)
    node.answer()
    assert (
        f"more{PER_REGISTRY_MAX}:1" not in node.fetched
        and len(node.fetched) == 1 + PER_REGISTRY_MAX
    )


def test_rt_33_policy_always_joins_no_fetch_that_has_begun() -> None:
    node = Node()
    node.pull("a", "app:1")
    node.pull("b", "app:1", "Always")
    node.answer()
    assert node.fetched == ["app:1", "app:1"]


def test_rt_33_the_registry_is_the_host_in_the_name() -> None:
    hosts = {
        "busybox": "docker.io",
        "library/busybox:1": "docker.io",
        "localhost/a": "localhost",
        "a.example/b/c": "a.example",
    }
    for image, registry in {**hosts, "h:5000/a": "h:5000"}.items():
        assert registry_of(image) == registry
