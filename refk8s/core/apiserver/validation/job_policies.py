"""Pod failure policies and success policies of a job. Rule VAL-67 (spec/validation.md).

Source: Kubernetes documentation, "Jobs" (pod failure policy, success policy); API reference, "Job".
"""

from itertools import pairwise

from refk8s.core.api.batch_v1 import (
    JobSpec,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyRule,
    SuccessPolicyRule,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
    too_long,
    too_many,
)
from refk8s.core.apiserver.validation.names import qualified_name
from refk8s.core.pods.containers import every_container

RULES_MAX, CONDITIONS_MAX, EXIT_CODES_MAX, INDEXES_BYTES_MAX = 20, 20, 255, 65536
ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
OPERATORS = ("In", "NotIn")
STATUSES = ("False", "True", "Unknown")


def _valid(words: tuple[str, ...]) -> str:
    return "valid values: [" + " ".join(f'"{word}"' for word in words) + "]"


def validate_policies(spec: JobSpec, at: str) -> Causes:
    """VAL-67."""
    causes: Causes = []
    if spec.pod_failure_policy is not None:
        rules, here = spec.pod_failure_policy.rules, f"{at}.podFailurePolicy.rules"
        if len(rules) > RULES_MAX:
            causes.append(too_many(here, len(rules), RULES_MAX))
        pod = spec.template.spec
        names = {container.name for container in every_container(pod)}
        for position, rule in enumerate(rules):
            causes += _validate_failure_rule(spec, rule, names, f"{here}[{position}]")
    if spec.success_policy is not None:
        if spec.completion_mode != "Indexed":
            causes.append(
                invalid(
                    f"{at}.successPolicy", spec.success_policy, "requires indexed completion mode"
                )
            )
        else:
            causes += _validate_success_policy(
                spec.success_policy.rules, spec.completions, f"{at}.successPolicy.rules"
            )
    return causes


def _validate_failure_rule(
    spec: JobSpec, rule: PodFailurePolicyRule, names: set[str], at: str
) -> Causes:
    """VAL-67: a known action, on exit codes or on conditions of a pod, not on both."""
    causes: Causes = []
    if not rule.action:
        causes.append(required(f"{at}.action", _valid(ACTIONS)))
    elif rule.action == "FailIndex" and spec.backoff_limit_per_index is None:
        causes.append(
            invalid(f"{at}.action", rule.action, "requires the backoffLimitPerIndex to be set")
        )
    elif rule.action not in ACTIONS:
        causes.append(not_supported(f"{at}.action", rule.action, ACTIONS))
    codes, conditions = rule.on_exit_codes, rule.on_pod_conditions or ()
    if codes is not None and conditions:
        causes.append(
            invalid(at, None, "specifying both OnExitCodes and OnPodConditions is not supported")
        )
    if codes is None and not conditions:
        causes.append(
            invalid(at, None, "specifying one of OnExitCodes and OnPodConditions is required")
        )
    if codes is not None:
        causes += _validate_exit_codes(codes, names, f"{at}.onExitCodes")
    if len(conditions) > CONDITIONS_MAX:
        causes.append(too_many(f"{at}.onPodConditions", len(conditions), CONDITIONS_MAX))
    for position, pattern in enumerate(conditions):
        here = f"{at}.onPodConditions[{position}]"
        causes += malformed(f"{here}.type", pattern.type, qualified_name)
        if not pattern.status:
            causes.append(required(f"{here}.status", _valid(STATUSES)))
        elif pattern.status not in STATUSES:
            causes.append(not_supported(f"{here}.status", pattern.status, STATUSES))
    return causes


def _validate_exit_codes(
    codes: PodFailurePolicyOnExitCodesRequirement, names: set[str], at: str
) -> Causes:
    """VAL-67: codes in order, each once; 0 is not a failure."""
    causes: Causes = []
    if not codes.operator:
        causes.append(required(f"{at}.operator", _valid(OPERATORS)))
    elif codes.operator not in OPERATORS:
        causes.append(not_supported(f"{at}.operator", codes.operator, OPERATORS))
    if codes.container_name is not None and codes.container_name not in names:
        words = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid(f"{at}.containerName", codes.container_name, words))
    values = codes.values
    if not values:
        causes.append(invalid(f"{at}.values", values, "at least one value is required"))
    elif len(values) > EXIT_CODES_MAX:
        causes.append(too_many(f"{at}.values", len(values), EXIT_CODES_MAX))
    seen: set[int] = set()
    for position, code in enumerate(values):
        if codes.operator == "In" and code == 0:
            causes.append(
                invalid(f"{at}.values[{position}]", code, "must not be 0 for the In operator")
            )
        if code in seen:
            causes.append(duplicate(f"{at}.values[{position}]", code))
        seen.add(code)
    if any(left > right for left, right in pairwise(values)):
        causes.append(invalid(f"{at}.values", values, "must be ordered"))
    return causes


def _validate_success_policy(
    rules: tuple[SuccessPolicyRule, ...], completions: int | None, at: str
) -> Causes:
    """VAL-67: indexes, or a count of them, whose success completes an indexed job."""
    causes: Causes = []
    if not rules:
        causes.append(
            required(at, "at least one rules must be specified when the successPolicy is specified")
        )
    if len(rules) > RULES_MAX:
        causes.append(too_many(at, len(rules), RULES_MAX))
    for position, rule in enumerate(rules):
        here, count, indexes = f"{at}[{position}]", rule.succeeded_count, rule.succeeded_indexes
        if count is None and indexes is None:
            causes.append(
                required(
                    here, "at least one of succeededCount or succeededIndexes must be specified"
                )
            )
        total = 0
        if indexes is not None:
            if len(indexes) > INDEXES_BYTES_MAX:
                causes.append(too_long(f"{here}.succeededIndexes", INDEXES_BYTES_MAX))
            if completions is not None:
                total, wrong = count_indexes(indexes[:INDEXES_BYTES_MAX], completions)
                if wrong:
                    causes.append(
                        invalid(
                            f"{here}.succeededIndexes",
                            indexes,
                            f"error parsing succeededIndexes: {wrong}",
                        )
                    )
        if count is not None:
            causes += not_negative(f"{here}.succeededCount", count)
            if completions is not None and count > completions:
                words = (
                    f"must be less than or equal to {completions} (the number of "
                    "specified completions)"
                )
                causes.append(invalid(f"{here}.succeededCount", count, words))
            if indexes is not None and count > total:
                words = (
                    f"must be less than or equal to {total} (the number of indexes in the "
                    "specified succeededIndexes field)"
                )
                causes.append(invalid(f"{here}.succeededCount", count, words))
    return causes


def count_indexes(text: str, completions: int) -> tuple[int, str]:
    """The number of indexes in a text such as `1,3-5`, and the problem: the numbers must ascend and
    be below completions."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        limits = interval.split("-")
        if len(limits) > 2:
            words = (
                "violates the requirement that an index interval can have at most two parts "
                "separated by '-'"
            )
            return 0, f'the fragment "{interval}" {words}'
        first = True
        for limit in limits:
            digits = limit[1:] if limit[:1] == "+" else limit
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
                return 0, f'cannot convert string to integer for index: "{limit}"'
            number = int(digits)
            if number >= completions:
                return 0, f'too large index: "{limit}"'
            if last >= number:
                return 0, f"non-increasing order, previous: {last}, current: {number}"
            total += 1 if first else number - last
            last, first = number, False
    return total, ""
