"""Warnings about pods and what makes them: WARN-3, WARN-4 (spec/validation.md)."""

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import pods
from test_val import tree_of
from val_examples import JOB, RUNTIME_CLASS, STATEFUL_SET, C, container, job, pod, template, work

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import EnvVar
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.validation import validate_create
from refk8s.core.apiserver.warnings import warnings_of
from refk8s.core.apiserver.warnings.pods import of_spec

TERM = {"topologyKey": "kubernetes.io/hostname"}
HOST_PORT = {"containerPort": 80, "hostPort": 80}
TOKEN = [
    {"serviceAccountToken": {"path": "a"}},
    {"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}},
]

# (kind, fields, what the only warning begins with; empty: there is none)
ODD = [
    ("Pod", pod(), ""),
    ("Pod", {"metadata": {"name": "a.b"}, **pod()}, "metadata.name: this is used in the Pod's hostname"),
    ("Pod", pod(nodeSelector={"beta.kubernetes.io/os": "linux"}), 'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use'),
    ("Pod", pod(topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
     "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"),
    ("Pod", pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}}),
     "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null"),
    ("Pod", pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]), "spec.volumes[0].gitRepo: deprecated in v1.11"),
    ("Pod", pod(serviceAccountName="s", volumes=[{"name": "v", "projected": {"sources": TOKEN}}]),
     'spec.volumes[0].projected.sources.secrets[0]: has duplicated path with ServiceAccountToken "a"'),
    ("Pod", pod(hostAliases=[{"ip": "1.2.3.4"}] * 2), 'spec.hostAliases[1].ip: duplicate ip "1.2.3.4"'),
    ("Pod", pod(hostAliases=[{"ip": "2001:DB8::1"}]), "spec.hostAliases[0].ip: IPv6 address"),
    ("Pod", pod(imagePullSecrets=[{"name": "s"}] * 2), 'spec.imagePullSecrets[1].name: duplicate name "s"'),
    ("Pod", pod(imagePullSecrets=[{}]), 'spec.imagePullSecrets[0].name: invalid empty name ""'),
    ("Pod", pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds: must be >= 0; negative values"),
    ("Pod", container(resources={"limits": {"memory": "1500m"}, "requests": {"memory": "1"}}), "spec.containers[0].resources.limits[memory]: fractional byte value"),
    ("Pod", container(ports=[{"containerPort": 80, "hostIP": "1.2.3.4"}]), "spec.containers[0].ports[0]: hostIP set without hostPort: {Name:"),
    ("Pod", container(ports=[{"containerPort": 80}] * 2), "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"),
    ("Pod", container(ports=[HOST_PORT, {"containerPort": 80}]), "spec.containers[0].ports[1]: overlapping port definition with"),
    ("Pod", container(ports=[HOST_PORT, {**HOST_PORT, "hostIP": "1.2.3.4"}]), "spec.containers[0].ports[1]: dangerously ambiguous port"),
    ("Pod", container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), 'spec.containers[0].env[1]: hides previous definition of "A"'),
    ("Pod", container(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), ""),
    ("Pod", {"metadata": {"annotations": {"scheduler.alpha.kubernetes.io/critical-pod": ""}}, **pod()},
     "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+"),
    ("PodTemplate", {"template": {"spec": {"containers": [{**C, "ports": [{"containerPort": 80}] * 2}]}}},
     "template.spec.containers[0].ports[1]: duplicate port definition with template.spec.containers[0].ports[0]"),
    ("Deployment.apps/v1", {"metadata": {"name": "a.b"}, **work()}, "metadata.name: this is used in Pod names and hostnames"),
    ("Deployment.apps/v1", template(imagePullSecrets=[{}]), "spec.template.spec.imagePullSecrets[0].name: invalid empty name"),
    (STATEFUL_SET, work(revisionHistoryLimit=-1), "spec.revisionHistoryLimit: a negative value retains all historical revisions"),
    (JOB, job(completionMode="Indexed", completions=100_001, parallelism=10_001), "spec: In Indexed Jobs with a number of completions"),
    ("Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA==", "tls.key": "eA=="}}, "tls: failed to find any PEM data in certificate"),
    ("Secret", {"type": "Opaque", "data": {"tls.crt": "eA=="}}, ""),
    ("ServiceAccount", {"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}, "metadata.annotations[kubernetes.io/enf"),
    (RUNTIME_CLASS, {"handler": "h", "scheduling": {"nodeSelector": {"beta.kubernetes.io/arch": "a"}}}, "scheduling.nodeSelector[beta.kubernetes.io/arch]"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "beginning"), ODD, ids=range(len(ODD)))
def test_warn_3_an_odd_object_is_accepted_with_one_warning(kind, fields, beginning):
    resource, obj = tree_of(kind, fields)
    assert validate_create(resource, obj) == ()
    found = warnings_of(resource, obj, None)
    assert [text[: len(beginning)] for text in found] == ([beginning] if beginning else [])


@given(pods())
def test_warn_3_no_pod_makes_an_error_and_no_warning_is_given_twice(drawn):
    found = warnings_of(resources.PODS, default(resources.PODS, drawn), None)
    assert len(set(found)) == len(found) and all(isinstance(text, str) and text for text in found)


@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from(["", "x", "$(A)", "$(A)x", "$(B)"])),
        max_size=5,
    )
)
def test_warn_3_a_variable_warns_where_an_earlier_value_of_it_is_lost(variables):
    _, obj = tree_of("Pod", pod())
    env = tuple([EnvVar(name=name, value=value or None) for name, value in variables])
    spec = replace(obj.spec, containers=(replace(obj.spec.containers[0], env=env or None),))
    lost = [
        position for position, (name, value) in enumerate(variables)
        if name in [earlier for earlier, _ in variables[:position]] and (f"$({name})" not in value or value == f"$({name})")
    ]  # fmt: skip
    found = of_spec(spec, obj.metadata, "")
    assert [text.partition(":")[0] for text in found] == [
        f"spec.containers[0].env[{position}]" for position in lost
    ]


def test_warn_4_a_template_warns_again_only_where_what_is_desired_changes():
    resource, old = tree_of("Deployment.apps/v1", template(imagePullSecrets=[{}]))
    old = replace(old, metadata=replace(old.metadata, generation=1))
    labelled = replace(old, metadata=replace(old.metadata, labels={"a": "b"}))
    assert warnings_of(resource, old, None) and not warnings_of(resource, labelled, old)
    assert warnings_of(
        resource, replace(labelled, metadata=replace(labelled.metadata, generation=2)), old
    )


def test_warn_3_a_warning_is_a_header_of_the_answer():
    world = World()
    body = b'{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A"},{"name":"A"}]}]}}'
    reply = world.http(
        "POST",
        "/api/v1/namespaces/default/pods?dryRun=All",
        body,
        {"content-type": "application/json"},
    )
    assert reply.code == 201 and reply.warnings == (
        'spec.containers[0].env[1]: hides previous definition of "A", '
        "which may be dropped when using apply",
    )
