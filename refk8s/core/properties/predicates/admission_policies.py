"""Rules of admission policies as predicates. Source: spec/admission_policies.md."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

_DEADLINE: Final = re.compile(
    r"!has\(object\.spec\.activeDeadlineSeconds\) \|\| object\.spec\.activeDeadlineSeconds <= (\d+)"
)


def deadline_at_most(seconds: int) -> str:
    """The expression of a policy that this predicate understands, without the library of
    expressions: a pod with a deadline has one of at most so many seconds."""
    field = "object.spec.activeDeadlineSeconds"
    return f"!has({field}) || {field} <= {seconds}"


def deadline_of(policy: Any) -> int | None:
    """The longest deadline that a policy of this form allows; None for every other policy."""
    spec = policy.spec
    known = [_DEADLINE.fullmatch(one.expression) for one in spec.validations or ()]
    if spec.param_kind or spec.match_conditions or not known or not all(known):
        return None
    return min(int(found[1]) for found in known if found is not None)


def pol_6_a_new_pod_was_allowed(pod: Any, limits: Iterable[int]) -> Iterator[str]:
    """POL-6: a pod is not stored if a policy that is in effect denies it. `limits`: of these
    policies, in seconds."""
    seconds = pod.spec.active_deadline_seconds
    for limit in limits:
        if seconds is not None and seconds > limit:
            yield (
                f"pod {pod.metadata.name} has a deadline of {seconds} s, "
                f"and the policy allows {limit}"
            )
