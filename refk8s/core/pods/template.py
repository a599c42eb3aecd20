"""The pod that a controller creates from a template. Rule RS-6 (spec/workloads/replica_set.md).

Source: Kubernetes documentation, "Pods" (pod templates).
"""

from refk8s.core.api.core_v1 import Pod, PodTemplateSpec
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference


def pod_from_template(template: PodTemplateSpec, controller: OwnerReference) -> Pod:
    """A pod with the template's labels, annotations, finalizers and spec, and this controller. The
    loop sets its name. O(1)."""
    metadata = template.metadata
    return Pod(
        metadata=ObjectMeta(
            generate_name=f"{controller.name}-",
            labels=metadata.labels,
            annotations=metadata.annotations,
            finalizers=metadata.finalizers,
            owner_references=(controller,),
        ),
        spec=template.spec,
    )
