"""The loop: the state machine that runs reconcilers. One step is one turn (turn.py). Rules LOOP-1
to LOOP-13 (spec/loop.md).
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from immutables import Map

from refk8s.core.api.user import User, component_user, service_account_user
from refk8s.core.context import SUFFIX_LENGTH, Instant, format_suffix
from refk8s.core.loop.draft import Draft
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.reconciler import KeysOf, Reconciler, no_keys
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.turn import take
from refk8s.core.loop.view import Viewer
from refk8s.core.machine import (
    Effects,
    Event,
    Impossible,
)


class Loop:
    """The machine that runs reconcilers.

    `component` and `host` name the source of the Events that it records. `user` lists and watches
    (LOOP-13); by default it is "system:" and the name.
    """

    def __init__(
        self,
        name: str,
        reconcilers: Sequence[Reconciler],
        component: str = "",
        host: str = "",
        user: User | None = None,
    ) -> None:
        self.name = name
        self.user = user or component_user(name)
        self.component = component or name
        self.host = host
        self.reconcilers = {reconciler.name: reconciler for reconciler in reconcilers}
        if len(self.reconcilers) != len(reconcilers):
            raise Impossible(f"two reconcilers of {name} have one name")
        self.users = {
            r.name: r.user or service_account_user("kube-system", r.name) for r in reconcilers
        }
        self.sources: dict[str, Informer] = {}
        # by resource prefix: the function, and the reconcilers that follow one another with it
        self.listeners: dict[str, list[tuple[KeysOf, list[str]]]] = {}
        for reconciler in reconcilers:
            for interest in reconciler.interests:
                prefix = interest.resource.prefix
                source = Informer(
                    interest.resource,
                    interest.field_selector,
                    interest.label_selector,
                    interest.while_any,
                )
                if self.sources.setdefault(prefix, source) != source:
                    raise Impossible(
                        f"two interests of {name} in {prefix} have different "
                        "selectors or conditions"
                    )
                listeners = self.listeners.setdefault(prefix, [])
                if interest.keys is no_keys:
                    continue
                if listeners and listeners[-1][0] == interest.keys:
                    listeners[-1][1].append(reconciler.name)
                else:
                    listeners.append((interest.keys, [reconciler.name]))
        # for the objects of every custom resource (LOOP-15)
        self.custom_listeners: list[tuple[KeysOf, list[str]]] = [
            (r.custom_keys, [r.name]) for r in reconcilers if r.custom_keys is not None
        ]
        self.viewer = Viewer(
            [source.resource for source in self.sources.values()],
            [index for reconciler in reconcilers for index in reconciler.indexes],
            [fold for reconciler in reconcilers for fold in reconciler.folds],
        )
        self.memory_names = {r.name: r.memory_name or r.name for r in reconcilers}

    def start(self, now: Instant, seed: bytes) -> tuple[LoopState, Effects]:
        memories: dict[str, Any] = {}
        for reconciler in self.reconcilers.values():
            name = self.memory_names[reconciler.name]
            if memories.get(name) is None:
                memories[name] = reconciler.start_memory(now)
        state = LoopState(
            self.viewer.empty(),
            Map(self.sources),
            Map(memories),
            seed,
            suffix=format_suffix(blake2b(seed, digest_size=SUFFIX_LENGTH).digest()),
        )
        draft = Draft(self, state, now)
        for reconciler in self.reconcilers.values():
            for key in reconciler.initial_keys:
                draft.make_due((reconciler.name, key))
        return take(draft, ())

    def step(
        self, state: LoopState, events: Sequence[Event], now: Instant
    ) -> tuple[LoopState, Effects]:
        return take(Draft(self, state, now), events)
