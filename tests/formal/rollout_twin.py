"""spec/formal/rollout.qnt in the core: the decisions of the Deployment controller
(refk8s/core/controllers/deployment.py, rollout.py)."""

import random
from typing import Any

from msgspec.structs import replace
from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core.api.apps_v1 import (
    Deployment,
    DeploymentSpec,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
    RollingUpdateDeployment,
)
from refk8s.core.api.core_v1 import PodTemplateSpec
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import deployment, deployment_acts, revision, rollout
from refk8s.core.controllers.deployment_observed import Decision
from refk8s.core.controllers.deployment_observed import Observed as Seen
from refk8s.core.loop.view import View

OLD, NEW = ("old1", "old2"), "new"
SHARES = [Variant("Count", n) for n in (0, 1, 2)] + [
    Variant("Percent", n) for n in (0, 25, 30, 60, 100)
]
TEMPLATE, SELECTOR = PodTemplateSpec(), LabelSelector()
EPOCH = 1_700_000_000 * SECOND


class RolloutTwin(Twin):
    model = "rollout"
    witnesses = (
        "some_surge",
        "some_proportional_scaling",
        "some_unavailable_pods_are_removed_first",
    )
    core_bugs = (
        CoreBug("the surge rounds down", rollout.compute_bounds, "round_up=True", "round_up=False"),
        CoreBug("pods that are not available yet count", rollout.shrink, "+ new.surely_available - bounds.fewest_available\n    sizes",
                "+ new.replicas - bounds.fewest_available\n    sizes"),
        CoreBug("nothing may be missing and nothing exceed", rollout.compute_bounds, "max_unavailable = 1", "max_unavailable = 0"),
        CoreBug("growing forgets the old pods", rollout.grow, "- total(old)", "- 0"),
        CoreBug("the old ones that work go first", rollout.shrink, "left[member.name] - member.surely_available, spare", "left[member.name], spare"),
        CoreBug("shares are cut off", rollout._rounded, "2 * numerator + denominator", "2 * numerator"),
        CoreBug("what is left over goes to the smallest", rollout.spread, "by_size[0].name", "by_size[-1].name"),
        CoreBug("what was scaled goes on as if it was not", deployment.decide, "if is_scaled(observed) and", "if False and"),
    )  # fmt: skip
    model_bugs = (
        ModelBug("the surge rounds down", "(p * replicas + 99) / 100", "(p * replicas) / 100"),
        ModelBug("the status is believed for more than the size", "pure def sure(rs: ReplicaSet): int = min(rs.size, rs.told)",
                 "pure def sure(rs: ReplicaSet): int = rs.told"),
        ModelBug("growing forgets the old pods", "min(b.most - now - others,", "min(b.most - now,", unsafe=True),
    )  # fmt: skip

    def __init__(self) -> None:
        self.replicas = 3
        self.surge = self.unavailable = Variant("Percent", 25)
        self.count = 0
        self.sets = {"old1": self._new_set(0, 0, 0), "old2": self._new_set(3, 3, 4)}
        self.ready = {"old1": 0, "old2": 3}
        self._report("old2")

    def _new_set(self, size: int, wanted: int, most: int) -> ReplicaSet:
        """A ReplicaSet that is younger than all before it."""
        self.count += 1
        annotations = {revision.DESIRED_REPLICAS: str(wanted), revision.MAX_REPLICAS: str(most)}
        metadata = ObjectMeta(
            name=f"set-{self.count}",
            creation_timestamp=timestamp(EPOCH + self.count * SECOND),
            annotations=annotations,
        )
        return ReplicaSet(
            metadata=metadata,
            spec=ReplicaSetSpec(replicas=size, selector=SELECTOR, template=TEMPLATE),
        )

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        match action:
            case "run_pods":
                return Act(action, (picks["name"], picks["ready"]))
            case "report":
                return Act(action, (picks["name"],))
            case "edit" if "number" in picks:
                return Act(
                    action,
                    (
                        picks["number"],
                        before["strategy"]["surge"],
                        before["strategy"]["unavailable"],
                    ),
                )
            case "edit":
                return Act(action, (before["replicas"], picks["surge"], picks["unavailable"]))
        return Act(action)

    def do(self, act: Act) -> None:
        match act:
            case Act("decide", ()):
                self._decide()
            case Act("run_pods", (name, ready)):
                self.ready[name] = ready
            case Act("report", (name,)):
                self._report(name)
            case Act("edit", (replicas, surge, unavailable)):
                self.replicas, self.surge, self.unavailable = replicas, surge, unavailable
            case Act("change_template", ()):
                self.sets = {"old1": self.sets["old2"], "old2": self.sets[NEW]}
                self.ready = {"old1": self.ready["old2"], "old2": self.ready[NEW]}

    def _decide(self) -> None:
        decision = self._decision()
        bounds = rollout.compute_bounds(self._deployment().spec)
        if decision.create is not None:
            self.sets[NEW] = deployment_acts.resized(
                self._new_set(0, 0, 0), decision.create, bounds
            )
            self.ready[NEW] = 0
        elif not decision.sizes:
            raise Impossible("the controller has nothing to do")
        for slot, rs in self.sets.items():
            size = decision.sizes.get(rs.metadata.name or "")
            if size is not None:
                self.sets[slot] = deployment_acts.resized(rs, size, bounds)

    def _decision(self) -> Decision:
        spec = self._deployment().spec
        seen = Seen(
            self._deployment(),
            rollout.compute_bounds(spec),
            self.sets.get(NEW),
            [self.sets[slot] for slot in OLD],
            1,
        )
        return deployment.decide(seen, View())

    def _deployment(self) -> Deployment:
        parameters = RollingUpdateDeployment(
            max_surge=_share(self.surge), max_unavailable=_share(self.unavailable)
        )
        strategy = DeploymentStrategy(type=rollout.ROLLING_UPDATE, rolling_update=parameters)
        spec = DeploymentSpec(
            replicas=self.replicas, selector=SELECTOR, template=TEMPLATE, strategy=strategy
        )
        return Deployment(metadata=ObjectMeta(name="web"), spec=spec)

    def _report(self, slot: str) -> None:
        rs = self.sets[slot]
        self.sets[slot] = replace(
            rs,
            status=ReplicaSetStatus(
                replicas=self.ready[slot], available_replicas=self.ready[slot] or None
            ),
        )

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        decision = self._decision()
        found = [Act("decide")] if decision.sizes or decision.create is not None else []
        for slot, rs in self.sets.items():
            most = max(rs.spec.replicas or 0, self.ready[slot])
            found += [
                Act("run_pods", (slot, chance.randint(0, most))),
                Act("run_pods", (slot, rs.spec.replicas)),
                Act("report", (slot,)),
            ]
        found.append(Act("edit", (chance.randint(0, 6), self.surge, self.unavailable)))
        found.append(Act("edit", (self.replicas, chance.choice(SHARES), chance.choice(SHARES))))
        if NEW in self.sets and not self.sets["old1"].spec.replicas:
            found.append(Act("change_template"))
        return found

    # --- pictures

    def show(self) -> Picture:
        bounds = rollout.compute_bounds(self._deployment().spec)
        return Record(
            replicas=self.replicas,
            bounds=Record(wanted=bounds.replicas, most=bounds.most, fewest=bounds.fewest_available),
            sets={slot: self._show_set(slot) for slot in self.sets},
        )

    def _show_set(self, slot: str) -> Record:
        rs = self.sets[slot]
        annotations = rs.metadata.annotations or {}
        return Record(
            size=rs.spec.replicas,
            ready=self.ready[slot],
            told=rs.status.available_replicas or 0,
            wanted=int(annotations[revision.DESIRED_REPLICAS]),
            most=int(annotations[revision.MAX_REPLICAS]),
        )

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        return Record({name: state[name] for name in ("replicas", "bounds", "sets")})


def _share(share: Variant) -> int | str:
    return share.value if share.tag == "Count" else f"{share.value}%"
