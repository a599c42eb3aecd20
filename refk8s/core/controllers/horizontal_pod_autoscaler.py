"""HorizontalPodAutoscaler: as many replicas as the load needs. Rules HPA-1 to HPA-14
(spec/workloads/autoscaler.md).

Each round reads the scale of the target and the metrics of its pods from the API server, decides,
and rests for 15 seconds. What the API server answers is kept in the reconciler's memory until the
round is complete. Earlier recommendations and changes are only there too, so a restart forgets
them, as upstream.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling"; KEP-853 (behavior), KEP-1610
(container resources), KEP-4951 (tolerance).
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.autoscaling_v1 import Scale
from refk8s.core.api.autoscaling_v2 import (
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus,
    MetricSpec,
    MetricStatus,
)
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import (
    API_SERVICES,
    CUSTOM_RESOURCE_DEFINITIONS,
    HORIZONTAL_POD_AUTOSCALERS,
    POD_METRICS,
    PODS,
    Resource,
    by_kind,
)
from refk8s.core.api.selector import Selector, SelectorError
from refk8s.core.api.selector import parse as parse_selector
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.controllers import autoscaler_behavior as behaviors
from refk8s.core.controllers.autoscaler_custom import (
    OF_OTHERS,
    UNKNOWN_PATH,
    question_key,
    question_of,
)
from refk8s.core.controllers.autoscaler_metrics import (
    RESOURCES,
    compute_metric,
    prefix_of,
    words_of,
)
from refk8s.core.controllers.autoscaler_replicas import (
    Uncomputable,
)
from refk8s.core.loop.custom import by_group, custom_by_kind
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, no_keys
from refk8s.core.loop.view import View, key_of, namespace_index
from refk8s.core.value import Value, evolve, field

PERIOD: Instant = 15 * SECOND
"""The time between two rounds (HPA-1)."""
ANSWER_MAX: Instant = 30 * SECOND
"""How long a round waits for an answer before it begins anew."""
ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
NO_SCALE = "the HPA controller was unable to get the target's current scale: "


class Wanted(Value, frozen=True):
    """A change of the target that was requested, until it is known whether it took effect."""

    before: int
    after: int
    reason: str


class Entry(Value, frozen=True, eq=False):
    """What is known of one autoscaler besides its object.

    `asked`: what the present round waits for, and since when. `questions`: those that it has asked
    for metrics, and `answers`, by their keys. `pods` is the selector of the target in the last
    round.
    """

    uid: str
    due_at: Instant = 0
    asked: str = ""
    asked_at: Instant = 0
    scale: Response | None = None
    questions: tuple[str, ...] = ()
    answers: Map[str, Response] = field(default_factory=Map)
    recommendations: tuple[behaviors.Record, ...] = ()
    ups: tuple[behaviors.Record, ...] = ()
    downs: tuple[behaviors.Record, ...] = ()
    wanted: Wanted | None = None
    pods: str = ""


Memory = Map[Key, Entry]


def _keys(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """The autoscaler, unless only its status has changed."""
    if old is not None and new is not None and old.metadata.generation == new.metadata.generation:
        return ()
    return (key_of(new if new is not None else old),)


class HorizontalPodAutoscalerController(Reconciler):
    """Reconciles one autoscaler."""

    name = "horizontal-pod-autoscaler"
    component = "horizontal-pod-autoscaler"
    interests = (
        Interest(HORIZONTAL_POD_AUTOSCALERS, _keys),
        Interest(PODS, no_keys),
        Interest(CUSTOM_RESOURCE_DEFINITIONS, no_keys),
        Interest(API_SERVICES, no_keys),
    )
    indexes = (namespace_index(HORIZONTAL_POD_AUTOSCALERS), namespace_index(PODS), by_group())

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Ask, decide, or rest (HPA-1). O(pods of the namespace) when it decides."""
        # Observe
        memory: Memory = local.memory
        hpa: HorizontalPodAutoscaler | None = view.get(HORIZONTAL_POD_AUTOSCALERS, key)
        if hpa is None or hpa.metadata.deletion_timestamp is not None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        uid = hpa.metadata.uid or ""
        entry = memory.get(key)
        if entry is None or entry.uid != uid:
            entry = Entry(uid, due_at=now + PERIOD)
            return Plan(memory=memory.set(key, entry), wake_at=entry.due_at)
        if entry.wanted is not None:
            return _conclude(hpa, entry, key, now, local)

        # Decide
        if not entry.asked:
            if now < entry.due_at:
                return Plan(wake_at=entry.due_at)
            return _ask_for_scale(view, hpa, entry, key, now, memory)
        if entry.scale is None or not all(one in entry.answers for one in entry.questions):
            if now < entry.asked_at + ANSWER_MAX:
                return Plan(wake_at=entry.asked_at + ANSWER_MAX)
            return _ask_for_scale(view, hpa, _rested(entry, now), key, now, memory)
        scale = _scale_of(entry.scale)
        if entry.asked == "scale" and scale is not None and _is_decided_by_metrics(hpa, scale):
            questions = _questions(view, hpa, scale.status.selector or "")
            if questions:
                return _ask_for_metrics(questions, entry, key, now, memory)
        return _Round(view, hpa, entry, key, now, memory).plan()

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep the answer to a question of the present round."""
        entry = memory.get(key)
        if entry is None:
            return memory, ()
        kept = response if response is not None else Response(503, None)
        if entry.asked == "scale" and request.subresource == "scale":
            entry = evolve(entry, scale=kept)
        elif entry.asked == "metrics" and (question := _key_of(request)) in entry.questions:
            entry = evolve(entry, answers=entry.answers.set(question, kept))
        return memory.set(key, entry), (key,)


# --- asking ---------------------------------------------------------------------------------------


def _target(view: View, hpa: HorizontalPodAutoscaler) -> Resource | None:
    reference = hpa.spec.scale_target_ref
    version = reference.api_version or ""
    found = by_kind(version, reference.kind)
    return found if found is not None else custom_by_kind(view, version, reference.kind)


def _ask_for_scale(
    view: View, hpa: HorizontalPodAutoscaler, entry: Entry, key: Key, now: Instant, memory: Memory
) -> Plan:
    resource = _target(view, hpa)
    if resource is None or resource.subresource("scale") is None:
        return _Round(view, hpa, entry, key, now, memory).without_scale(resource)
    entry = evolve(entry, asked="scale", asked_at=now)
    name = hpa.spec.scale_target_ref.name
    question = Request("get", resource, hpa.metadata.namespace or "", name, "scale", because="how many replicas it has")  # fmt: skip
    return Plan(queries=(question,), memory=memory.set(key, entry), wake_at=now + ANSWER_MAX)


def _scale_of(response: Response) -> Scale | None:
    """The scale that the API server answered; None if it answered anything else (HPA-2)."""
    return response.body if response.ok and isinstance(response.body, Scale) else None


def _is_decided_by_metrics(hpa: HorizontalPodAutoscaler, scale: Scale) -> bool:
    """Whether the metrics decide: the target is neither off nor out of its bounds."""
    is_within = _least(hpa) <= (scale.spec.replicas or 0) <= hpa.spec.max_replicas
    return is_within and bool(scale.status.selector)


def _questions(view: View, hpa: HorizontalPodAutoscaler, selector: str) -> tuple[Request, ...]:
    """The questions for the metrics, each once."""
    namespace, specs = hpa.metadata.namespace or "", hpa.spec.metrics or ()
    found: dict[str, Request] = {}
    for spec in specs:
        if spec.type in OF_OTHERS:
            question = question_of(view, spec, namespace, selector)
            if isinstance(question, Request):
                found[question_key(question)] = question
        else:
            options = Options(label_selector=selector)
            found[RESOURCES] = Request(
                "list", POD_METRICS, namespace, options=options, because="what its pods use"
            )
    return tuple(found.values())


def _key_of(request: Request) -> str:
    return RESOURCES if request.resource == POD_METRICS else question_key(request)


def _ask_for_metrics(
    questions: tuple[Request, ...], entry: Entry, key: Key, now: Instant, memory: Memory
) -> Plan:
    keys = tuple([_key_of(one) for one in questions])
    entry = evolve(entry, asked="metrics", asked_at=now, questions=keys)
    return Plan(queries=questions, memory=memory.set(key, entry), wake_at=now + ANSWER_MAX)


def _rested(entry: Entry, now: Instant) -> Entry:
    return evolve(entry, asked="", scale=None, questions=(), answers=Map(), due_at=now + PERIOD)


def _least(hpa: HorizontalPodAutoscaler) -> int:
    return 1 if hpa.spec.min_replicas is None else hpa.spec.min_replicas


# --- a round --------------------------------------------------------------------------------------


class _Round:
    """The decision of one round, with what it changes: conditions, Events, metrics, memory."""

    def __init__(
        self, view: View, hpa: HorizontalPodAutoscaler, entry: Entry, key: Key, now: Instant, memory: Memory
    ) -> None:  # fmt: skip
        self.view = view
        self.hpa = hpa
        self.entry = entry
        self.key = key
        self.now = now
        self.memory = memory
        self.conditions = tuple(hpa.status.conditions or ())
        self.notes: list[Note] = []
        self.metrics: tuple[MetricStatus, ...] | None = None

    def without_scale(self, resource: Resource | None) -> Plan:
        """HPA-2: there is nothing to scale."""
        reference = self.hpa.spec.scale_target_ref
        group = (reference.api_version or "").rpartition("/")[0]
        words = UNKNOWN_PATH
        if resource is None:
            words = f'unable to determine resource for scale target reference: no matches for kind "{reference.kind}" in group "{group}"'  # fmt: skip
        return self.no_scale(words)

    def no_scale(self, words: str) -> Plan:
        self.note("FailedGetScale", words)
        self.condition(ABLE, "False", "FailedGetScale", NO_SCALE + words)
        return self.report(self.hpa.status)

    def plan(self) -> Plan:
        """HPA-2, HPA-10: from the scale and the metrics to the number of replicas."""
        response = self.entry.scale
        assert response is not None
        scale = _scale_of(response)
        if scale is None:
            return self.no_scale(words_of(response, UNKNOWN_PATH))
        words = "the HPA controller was able to get the target's current scale"
        self.condition(ABLE, "True", "SucceededGetScale", words)
        current = scale.spec.replicas or 0
        hpa, least, most = self.hpa, _least(self.hpa), self.hpa.spec.max_replicas
        if not self.entry.recommendations:
            self.entry = evolve(self.entry, recommendations=((self.now, current),))
        reason = ""
        if current == 0:
            words = "scaling is disabled since the replica count of the target is zero"
            self.condition(ACTIVE, "False", "ScalingDisabled", words)
            desired = 0
        elif current > most:
            desired, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            desired, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            found = self.by_metrics(scale)
            if found is None:
                return self.report(self.with_replicas(current))
            proposed, metric = found
            if proposed != current:
                is_more = proposed > current
                reason = f"{metric} above target" if is_more else "All metrics below target"
            desired = self.normalized(current, proposed, least, most)
        status = replace(
            hpa.status,
            observed_generation=hpa.metadata.generation,
            current_replicas=current or None,
            desired_replicas=desired,
            current_metrics=self.metrics,
        )
        if desired == current:
            return self.report(status)
        return self.rescale(scale, status, Wanted(current, desired, reason))

    def with_replicas(self, current: int) -> HorizontalPodAutoscalerStatus:
        """The status when no number could be computed: the desired one stays."""
        return replace(
            self.hpa.status,
            observed_generation=self.hpa.metadata.generation,
            current_replicas=current or None,
            current_metrics=self.metrics,
        )

    # --- metrics

    def by_metrics(self, scale: Scale) -> tuple[int, str] | None:
        """The largest number that a metric asks for, and its name. None if there is none,
        or if one failed and the others ask for less than there are (HPA-3)."""
        text = scale.status.selector or ""
        if not text:
            words = "the HPA target's scale is missing a selector"
            self.note("SelectorRequired", "selector is required")
            self.condition(ACTIVE, "False", "InvalidSelector", words)
            return None
        try:
            selector = parse_selector(text)
        except SelectorError as error:
            words = (
                f"couldn't convert selector into a corresponding internal selector object: {error}"
            )
            self.note("InvalidSelector", words)
            self.condition(ACTIVE, "False", "InvalidSelector", words)
            return None
        self.entry = evolve(self.entry, pods=text)
        pods = self.pods_of(selector)
        others = self.others(pods)
        if others:
            words = f"pods by selector {text} are controlled by multiple HPAs: [{' '.join(sorted([self.key, *others]))}]"  # fmt: skip
            self.note("AmbiguousSelector", words)
            self.condition(ACTIVE, "False", "AmbiguousSelector", words)
            return None
        return self.largest(scale, pods)

    def largest(self, scale: Scale, pods: list[Pod]) -> tuple[int, str] | None:
        current = scale.spec.replicas or 0
        specs = self.hpa.spec.metrics or ()
        best: tuple[int, str] | None = None
        failed: list[tuple[str, str, str]] = []
        statuses: list[MetricStatus] = []
        for spec in specs:
            try:
                question = self.question(spec, scale)
                replicas, name, status = compute_metric(
                    self.hpa, spec, question, self.entry.answers, pods, scale, self.now
                )
            except Uncomputable as error:
                failed.append((f"FailedGet{spec.type}Metric", str(error), prefix_of(spec)))
                statuses.append(MetricStatus(type=""))
                continue
            statuses.append(status)
            if best is None or replicas > best[0]:
                best = replicas, name
        self.metrics = tuple(statuses)
        for kind, words, _ in failed:
            self.note(kind, words)
        if best is None or (failed and best[0] < current):
            kind, first, prefix = failed[0]
            words = f"the HPA was unable to compute the replica count: {first}"
            self.condition(ACTIVE, "False", kind, words)
            said = (
                f"invalid metrics ({len(failed)} invalid out of {len(specs)}), first error is: "
                f"{prefix}{first}"
            )
            self.note("FailedComputeMetricsReplicas", said)
            return None
        words = f"the HPA was able to successfully calculate a replica count from {best[1]}"
        self.condition(ACTIVE, "True", "ValidMetricFound", words)
        return best

    def question(self, spec: MetricSpec, scale: Scale) -> Request | str | None:
        """The question that was asked for a metric of another API server."""
        if spec.type not in OF_OTHERS:
            return None
        namespace = self.hpa.metadata.namespace or ""
        return question_of(self.view, spec, namespace, scale.status.selector or "")

    def pods_of(self, selector: Selector) -> list[Pod]:
        namespace = self.hpa.metadata.namespace or ""
        return [
            pod
            for pod in self.view.indexed(PODS, "namespace", namespace)
            if selector.matches(pod.metadata.labels)
        ]

    def others(self, pods: list[Pod]) -> list[Key]:
        """The other autoscalers of the namespace whose last selector matches one of the pods."""
        found: list[Key] = []
        namespace = self.hpa.metadata.namespace or ""
        for key in self.view.indexed_keys(HORIZONTAL_POD_AUTOSCALERS, "namespace", namespace):
            entry = self.memory.get(key)
            if key == self.key or entry is None or not entry.pods:
                continue
            try:
                selector = parse_selector(entry.pods)
            except SelectorError:
                continue
            if any(selector.matches(pod.metadata.labels) for pod in pods):
                found.append(key)
        return found

    # --- limits

    def normalized(self, current: int, proposed: int, least: int, most: int) -> int:
        """The number within windows, policies and bounds (HPA-8, HPA-9, HPA-10)."""
        entry, behavior = self.entry, self.hpa.spec.behavior
        found = behaviors.limit(
            behavior, current, proposed, least, most, entry.recommendations, entry.ups, entry.downs, self.now
        )  # fmt: skip
        records = (*entry.recommendations, (self.now, proposed))
        self.entry = evolve(
            entry, recommendations=behaviors.remembered(behavior, records, self.now)
        )
        self.condition(ABLE, "True", found.able_reason, found.able_message)
        is_limited = "True" if found.replicas != found.stabilized else "False"
        self.condition(LIMITED, is_limited, found.limit_reason, found.limit_message)
        return found.replicas

    # --- what it leads to

    def rescale(self, scale: Scale, status: HorizontalPodAutoscalerStatus, wanted: Wanted) -> Plan:
        """Change the target, then report it (HPA-11)."""
        hpa = self.hpa
        resource = _target(self.view, hpa)
        assert resource is not None
        words = f"the HPA controller was able to update the target scale to {wanted.after}"
        self.condition(ABLE, "True", "SucceededRescale", words)
        said = f"New size: {wanted.after}; reason: {wanted.reason}"
        body = replace(scale, spec=replace(scale.spec, replicas=wanted.after or None))
        request = Request(
            "update",
            resource,
            hpa.metadata.namespace or "",
            hpa.spec.scale_target_ref.name,
            "scale",
            body=body,
            because=wanted.reason or "of an earlier recommendation",
            note=Note(hpa, "SuccessfulRescale", said),
        )
        self.entry = evolve(self.entry, wanted=wanted)
        status = replace(status, last_scale_time=timestamp(self.now))
        return self.report(status, (request,))

    def report(
        self, status: HorizontalPodAutoscalerStatus, first: tuple[Request, ...] = ()
    ) -> Plan:
        """Write the status if it differs, and rest."""
        status = replace(status, conditions=self.conditions or None)
        waves = [first] if first else []
        if status != self.hpa.status:
            waves.append((_update(self.hpa, status),))
        entry = _rested(self.entry, self.now)
        return Plan(
            tuple(waves),
            wake_at=entry.due_at,
            notes=tuple(self.notes),
            memory=self.memory.set(self.key, entry),
        )

    def note(self, reason: str, message: str) -> None:
        self.notes.append(Note(self.hpa, reason, message, "Warning"))

    def condition(self, kind: str, status: str, reason: str, message: str) -> None:
        self.conditions = with_condition(self.conditions, kind, status, reason, message, self.now)


def _conclude(
    hpa: HorizontalPodAutoscaler, entry: Entry, key: Key, now: Instant, local: Local
) -> Plan:
    """A change of the target was requested: remember it, or report why it was rejected (HPA-11)."""
    wanted = entry.wanted
    assert wanted is not None
    details = getattr(local.failure.body, "details", None) if local.failure is not None else None
    kind = details.kind if details is not None else ""
    entry = evolve(entry, wanted=None)
    if local.failure is None or kind in (HORIZONTAL_POD_AUTOSCALERS.plural, hpa.kind):
        if hpa.spec.behavior is not None:
            change = wanted.after - wanted.before
            up, down = hpa.spec.behavior.scale_up, hpa.spec.behavior.scale_down
            ups = (*entry.ups, (now, change)) if change > 0 else entry.ups
            downs = (*entry.downs, (now, -change)) if change < 0 else entry.downs
            entry = evolve(
                entry,
                ups=behaviors.remembered_changes(up, ups, now),
                downs=behaviors.remembered_changes(down, downs, now),
            )
        return Plan(memory=local.memory.set(key, entry), wake_at=entry.due_at)
    error = words_of(local.failure, "the scale could not be updated")
    said = f"New size: {wanted.after}; reason: {wanted.reason}; error: {error}"
    words = f"the HPA controller was unable to update the target scale: {error}"
    known = tuple(hpa.status.conditions or ())
    conditions = with_condition(known, ABLE, "False", "FailedUpdateScale", words, now)
    status = replace(hpa.status, conditions=conditions)
    waves = ((_update(hpa, status),),) if status != hpa.status else ()
    return Plan(
        waves,
        wake_at=entry.due_at,
        notes=(Note(hpa, "FailedRescale", said, "Warning"),),
        memory=local.memory.set(key, entry),
    )


def with_condition(
    conditions: tuple[HorizontalPodAutoscalerCondition, ...],
    kind: str,
    status: str,
    reason: str,
    message: str,
    now: Instant,
) -> tuple[HorizontalPodAutoscalerCondition, ...]:
    """The conditions with this one; its time changes only with its status (HPA-12)."""
    known = next((one for one in conditions if one.type == kind), None)
    since = timestamp(now)
    if known is not None and known.status == status and known.last_transition_time is not None:
        since = known.last_transition_time
    new = HorizontalPodAutoscalerCondition(
        type=kind, status=status, reason=reason, message=message, last_transition_time=since
    )
    if known is None:
        return (*conditions, new)
    return tuple([new if one.type == kind else one for one in conditions])


def _update(hpa: HorizontalPodAutoscaler, status: HorizontalPodAutoscalerStatus) -> Request:
    metadata = hpa.metadata
    return Request(
        "update",
        HORIZONTAL_POD_AUTOSCALERS,
        metadata.namespace or "",
        metadata.name or "",
        "status",
        body=replace(hpa, status=status),
        because=f"it has {status.current_replicas or 0} replicas and wants {status.desired_replicas}",
    )
