"""Annotations of pods that Kubernetes itself reads. Rule VAL-81 (spec/validation.md).

Source: Kubernetes documentation, "Well-Known Labels, Annotations and Taints", "ReplicaSet" (pod
deletion cost), "Restrict a Container's Access to Resources with AppArmor", "Restrict a Container's
Syscalls with seccomp".
"""

import re

from refk8s.core.api import codec
from refk8s.core.api.codec import DecodeError, MalformedJson
from refk8s.core.api.core_v1 import PodSpec, Toleration
from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid
from refk8s.core.apiserver.validation.mounts import validate_descending_path
from refk8s.core.apiserver.validation.scheduling import validate_tolerations
from refk8s.core.pods.references import MIRROR_ANNOTATION

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_OF_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_PROFILES = ("runtime/default", "docker/default", "unconfined")
APP_ARMOR_PROFILES = ("", "runtime/default", "unconfined")
_is_number = re.compile(r"0|[1-9][0-9]*|-[0-9]+", re.ASCII).fullmatch


def validate_pod_annotations(annotations: dict[str, str], spec: PodSpec, at: str) -> Causes:
    """VAL-81: of a pod or a template. `at`: the path of the annotations."""
    causes: Causes = []
    if MIRROR_ANNOTATION in annotations and not spec.node_name:
        words = "must set spec.nodeName if mirror pod annotation is set"
        causes.append(invalid(f"{at}[{MIRROR_ANNOTATION}]", annotations[MIRROR_ANNOTATION], words))
    if annotations.get(TOLERATIONS):
        causes += _tolerations(annotations[TOLERATIONS], at)
    cost = annotations.get(DELETION_COST)
    if cost is not None and not _is_cost(cost):
        causes.append(invalid(f"{at}[{DELETION_COST}]", cost, "must be a 32bit integer"))
    for key, profile in annotations.items():
        here = f"{at}[{key}]"
        if key == SECCOMP or key.startswith(SECCOMP_OF_CONTAINER):
            causes += _seccomp(profile, here)
        elif key.startswith(APP_ARMOR):
            name = key.removeprefix(APP_ARMOR)
            containers = (*(spec.init_containers or ()), *spec.containers)
            if all(container.name != name for container in containers):
                causes.append(invalid(here, name, "container not found"))
            if profile not in APP_ARMOR_PROFILES and not profile.startswith("localhost/"):
                words = f'invalid AppArmor profile name: "{profile}"'
                causes.append(invalid(here, profile, words))
    return causes


def validate_pod_annotations_update(
    new: dict[str, str], old: dict[str, str], spec: PodSpec, at: str
) -> Causes:
    """VAL-81: whether a pod is a mirror pod, and its AppArmor profiles, are immutable."""
    causes: Causes = []
    for key in (*old, *[key for key in new if key not in old]):
        if new.get(key) == old.get(key):
            continue
        what = "remove or update" if key in old else "add"
        if key.startswith(APP_ARMOR):
            causes.append(forbidden(f"{at}[{key}]", f"may not {what} AppArmor annotations"))
        elif key == MIRROR_ANNOTATION:
            causes.append(forbidden(f"{at}[{key}]", f"may not {what} mirror pod annotation"))
    return causes + validate_pod_annotations(new, spec, at)


def _is_cost(text: str) -> bool:
    """Whether it is a 32-bit number without a plus, and without leading zeros unless negative."""
    digits = text.lstrip("-0")
    if not _is_number(text) or len(digits) > 10:
        return False
    return int(digits or "0") < 2**31 + text.startswith("-")


def _tolerations(text: str, at: str) -> Causes:
    try:
        trees = codec.parse(text.encode())
        items = [codec.decode_tolerant(Toleration, tree)[0] for tree in trees or ()]
    except (DecodeError, MalformedJson, TypeError) as error:
        return [invalid(at, TOLERATIONS, str(error))]
    return validate_tolerations(tuple(items), f"{at}.{TOLERATIONS}")


def _seccomp(profile: str, at: str) -> Causes:
    if profile in SECCOMP_PROFILES:
        return []
    if profile.startswith("localhost/"):
        return validate_descending_path(profile.removeprefix("localhost/"), at)
    return [invalid(at, profile, "must be a valid seccomp profile")]
