"""Fields that some kinds get once, on create. Rule ADM-10 (spec/admission.md).

Source: Kubernetes documentation, "Namespaces", "Jobs" (pod selector), "DaemonSet"; API reference.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import DaemonSet
from refk8s.core.api.batch_v1 import Job
from refk8s.core.api.core_v1 import Namespace, NamespaceStatus
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.request import Request
from refk8s.core.apiserver.defaults.cluster import default_namespace
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context

FINALIZER = "kubernetes"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
JOB_LABELS = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
LEGACY_JOB_LABELS = ("controller-uid", "job-name")


def admit_namespace(
    request: Request, new: Namespace, old: Any, store: Reader, context: Context
) -> Namespace:
    """ADM-10: a namespace is created Active, with its name as a label and with the finalizer
    `kubernetes`."""
    new = default_namespace(new)  # its name may have been generated after defaulting
    if old is not None:
        return new
    finalizers = new.spec.finalizers or ()
    if FINALIZER not in finalizers:
        finalizers = (*finalizers, FINALIZER)
    return replace(
        new, spec=replace(new.spec, finalizers=finalizers), status=NamespaceStatus(phase="Active")
    )


def admit_daemon_set(
    request: Request, new: DaemonSet, old: Any, store: Reader, context: Context
) -> DaemonSet:
    """ADM-10: an annotation counts the templates of a daemon set."""
    if old is None:
        count = 1
    else:
        count = _count(old) + (new.spec.template != old.spec.template)
    annotations = new.metadata.annotations or {}
    if annotations.get(TEMPLATE_GENERATION) == str(count):
        return new
    return replace(
        new,
        metadata=replace(
            new.metadata, annotations={**annotations, TEMPLATE_GENERATION: str(count)}
        ),
    )


def _count(daemon_set: DaemonSet) -> int:
    text = (daemon_set.metadata.annotations or {}).get(TEMPLATE_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0


def admit_job(request: Request, new: Job, old: Any, store: Reader, context: Context) -> Job:
    """ADM-10: a job without `manualSelector` gets labels that no other job has, and selects by
    them."""
    if old is not None or new.spec.manual_selector:
        return new
    spec, template = new.spec, new.spec.template
    uid, name = new.metadata.uid or "", new.metadata.name or ""
    marks: dict[str, str] = {}
    for of_uid, of_name in (LEGACY_JOB_LABELS, JOB_LABELS):
        marks |= {of_uid: uid, of_name: name}
    given = template.metadata.labels or {}
    labels = {**marks, **given}
    selector = spec.selector or LabelSelector()
    mine = {JOB_LABELS[0]: marks[JOB_LABELS[0]]}
    selector = replace(selector, match_labels={**(selector.match_labels or {}), **mine})
    metadata = new.metadata
    if not metadata.labels or metadata.labels == given:
        metadata = replace(metadata, labels=labels)
    template = replace(template, metadata=replace(template.metadata, labels=labels))
    return replace(new, metadata=metadata, spec=replace(spec, selector=selector, template=template))
