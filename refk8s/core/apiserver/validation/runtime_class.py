"""Runtime classes. Rule VAL-66 (spec/validation.md).

Source: Kubernetes documentation, "Runtime Class", "Pod Overhead".
"""

from refk8s.core.api.core_v1 import ResourceRequirements
from refk8s.core.api.node_v1 import RuntimeClass
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    malformed,
    required,
    unchanged,
)
from refk8s.core.apiserver.validation.metadata import validate_labels
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.resources import validate_requirements
from refk8s.core.apiserver.validation.scheduling import validate_tolerations


def validate_runtime_class(runtime_class: RuntimeClass) -> Causes:
    """VAL-66: the handler, the overhead, and the node selector and tolerations."""
    handler = runtime_class.handler
    causes = malformed("handler", handler, dns_label) if handler else [required("handler")]
    if runtime_class.overhead is not None:
        causes += validate_requirements(
            ResourceRequirements(limits=runtime_class.overhead.pod_fixed), "overhead"
        )
    scheduling = runtime_class.scheduling
    if scheduling is not None:
        causes += validate_labels(scheduling.node_selector or {}, "scheduling.nodeSelector")
        tolerations = scheduling.tolerations or ()
        causes += validate_tolerations(tolerations, "scheduling.tolerations")
        for position, toleration in enumerate(tolerations):
            if toleration in tolerations[:position]:
                causes.append(duplicate(f"scheduling.tolerations[{position}]", toleration))
    return causes


def validate_runtime_class_update(new: RuntimeClass, old: RuntimeClass) -> Causes:
    """VAL-66: a valid one with the same handler."""
    return validate_runtime_class(new) + unchanged("handler", new.handler, old.handler)
