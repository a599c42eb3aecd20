"""LimitRanges, and labels of the topology (spec/admission.md, ADM-40 to ADM-42)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_quota import PODS, STATUS, Namespaced, a_container, a_pod

from refk8s.core.api.quantity import parse
from refk8s.core.apiserver.admission.limit_ranger import ANNOTATION


class Limited(Namespaced):
    def limit(self, *items: dict[str, Any], name: str = "l") -> None:
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name}}
        code, answer = self.send("POST", "limitranges", {**body, "spec": {"limits": list(items)}})
        assert code == 201, answer

    def pod(self, *containers: dict[str, Any], **spec: Any) -> Any:
        code, answer = self.send("POST", "pods?dryRun=All", a_pod("p", *containers, **spec))
        assert code == 201, answer
        return answer


def limited(type_: str = "Container", **bounds: Any) -> dict[str, Any]:
    return {"type": type_, **bounds}


def test_adm_40_containers_get_defaults_and_the_annotation_says_which():
    world = Limited()
    world.limit(limited(default={"cpu": "500m", "memory": "64Mi"}, defaultRequest={"cpu": "100m"}))
    made = world.pod(a_container("a"), a_container("b", limits={"cpu": "1"}))
    assert [one["resources"] for one in made["spec"]["containers"]] == [
        {
            "limits": {"cpu": "500m", "memory": "64Mi"},
            "requests": {"cpu": "100m", "memory": "64Mi"},
        },
        {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}},
    ]
    assert made["metadata"]["annotations"] == {
        ANNOTATION: "LimitRanger plugin set: cpu, memory request for container a; "
        "cpu, memory limit for container a; memory request for container b; "
        "memory limit for container b"
    }
    assert made["status"]["qosClass"] == "Burstable"


def test_adm_40_init_containers_get_defaults_and_the_first_range_comes_first():
    world = Limited()
    world.limit(limited(default={"cpu": "2"}), name="b")
    world.limit(limited(default={"cpu": "1"}), limited("Pod", max={"cpu": "9"}), name="a")
    made = world.pod(a_container("c", limits={"cpu": "3"}), initContainers=[a_container("i")])
    assert made["spec"]["initContainers"][0]["resources"]["limits"] == {"cpu": "1"}
    words = made["metadata"]["annotations"][ANNOTATION]
    assert words == (
        "LimitRanger plugin set: cpu request for init container i; cpu limit for init container i"
    )
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "3"}


def test_adm_40_a_pod_that_has_everything_and_one_of_another_namespace_are_not_changed():
    world = Limited()
    world.limit(limited(default={"cpu": "1"}))
    made = world.pod(a_container(limits={"cpu": "2"}))
    assert "annotations" not in made["metadata"]
    reply: Any = world.http(
        "POST", "/api/v1/namespaces/other/pods", a_pod("p"), {"content-type": "application/json"}
    )
    assert reply.code == 201 and b"limit-ranger" not in reply.content


def test_adm_40_an_update_sets_nothing():
    world = Limited()
    assert world.post("pods", a_pod("p")) == ""
    world.limit(limited(default={"cpu": "1"}, max={"cpu": "1"}))
    labels = {"metadata": {"labels": {"a": "b"}}}
    code, answer = world.send("PATCH", "pods/p", labels, **STATUS)
    assert code == 200 and not answer["spec"]["containers"][0]["resources"]


BOUNDS = limited(min={"cpu": "100m"}, max={"cpu": "1"}, maxLimitRequestRatio={"cpu": "2"})


@pytest.mark.parametrize(
    ("item", "resources", "message"),
    [
        (BOUNDS, {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}},
         "minimum cpu usage per Container is 100m, but request is 50m"),
        (limited(min={"cpu": "100m"}), {"requests": {"cpu": "100m"}}, ""),
        (limited(min={"example.com/a": "2"}), {"limits": {"example.com/a": "1"}},
         "minimum example.com/a usage per Container is 2, but request is 1"),
        (limited("Pod", min={"cpu": "100m"}), {},
         "minimum cpu usage per Pod is 100m.  No request is specified"),
        (BOUNDS, {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
         "maximum cpu usage per Container is 1, but limit is 2"),
        (limited("Pod", max={"cpu": "1"}), {"requests": {"cpu": "1"}},
         "maximum cpu usage per Pod is 1.  No limit is specified"),
        (BOUNDS, {"requests": {"cpu": "300m"}, "limits": {"cpu": "900m"}},
         "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
        (BOUNDS, {"requests": {"cpu": "300m"}, "limits": {"cpu": "600m"}}, ""),
        (BOUNDS, {}, ""),
        (limited(maxLimitRequestRatio={"cpu": "2"}), {},
         "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"),
        (limited(maxLimitRequestRatio={"cpu": "2"}), {"requests": {"cpu": "1"}},
         "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"),
        (limited("Pod", max={"cpu": "1"}, min={"memory": "1Mi"}), {},
         "[minimum memory usage per Pod is 1Mi.  No request is specified, "
         "maximum cpu usage per Pod is 1.  No limit is specified]"),
    ],
)  # fmt: skip
def test_adm_41_containers_keep_to_the_bounds(item, resources, message):
    world = Limited()
    world.limit(item)
    assert world.post("pods", a_pod("p", a_container("c", **resources))) == message


def test_adm_41_every_container_and_every_range_is_checked():
    world = Limited()
    world.limit(limited(max={"cpu": "2"}), name="a")
    world.limit(limited(max={"cpu": "1"}), name="b")
    large = a_container("i", limits={"cpu": "1500m"})
    pod = a_pod("p", a_container("c", limits={"cpu": "1"}), initContainers=[large])
    assert world.post("pods", pod) == "maximum cpu usage per Container is 1, but limit is 1500m"


def test_adm_41_an_invalid_pod_is_answered_with_its_causes():
    world = Limited()
    world.limit(limited(max={"cpu": "1"}))
    code, _ = world.send("POST", "pods", a_pod("p", {"name": "c"}))
    assert code == 422


amounts = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(
    amounts, st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=2), st.integers(1, 20)
)
def test_adm_41_a_pod_is_bounded_by_the_most_that_it_limits_at_any_time(limits, inits, most):
    world = Limited()
    world.limit(limited("Pod", max={"cpu": str(most)}))
    containers = [a_container(f"c{n}", limits={"cpu": str(m)}) for n, m in enumerate(limits)]
    first = [
        a_container(f"i{n}", limits={"cpu": str(m)})
        | ({"restartPolicy": "Always"} if stays else {})
        for n, (m, stays) in enumerate(inits)
    ]
    running, peak = 0, 0
    for much, stays in inits:
        peak = max(peak, running + much)
        running += much if stays else 0
    peak = max(peak, running + sum(limits))
    message = world.post("pods", a_pod("p", *containers, initContainers=first))
    assert message == (
        "" if peak <= most else f"maximum cpu usage per Pod is {most}, but limit is {peak}"
    )


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1000, 5000))
def test_adm_41_the_ratio_is_exact(request, limit, ratio):
    world = Limited()
    world.limit(limited("Pod", maxLimitRequestRatio={"cpu": f"{ratio}m"}))
    resources = {"requests": {"cpu": f"{min(request, limit)}m"}, "limits": {"cpu": f"{limit}m"}}
    message = world.post("pods", a_pod("p", a_container("c", **resources)))
    assert bool(message) == (limit * 1000 > ratio * min(request, limit))
    if message:
        shown = f"{limit / min(request, limit):.6f}"
        assert message == (
            f"cpu max limit to request ratio per Pod is {parse(f'{ratio}m')}, "
            f"but provided ratio is {shown}"
        )


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("512Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
        ("1Gi", ""),
        ("2Gi", ""),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
    ],
)
def test_adm_41_claims_keep_to_the_bounds(size, message):
    world = Limited()
    world.limit(limited("PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"}))
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    assert world.post("persistentvolumeclaims", {**claim, "spec": spec}) == message


ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


def test_adm_42_a_pod_gets_the_zone_and_region_of_its_node():
    world = Limited()
    labels = {ZONE: "z1", REGION: "r1", "other": "x"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    bare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}}
    for one in (node, bare):
        reply: Any = world.http("POST", "/api/v1/nodes", one, {"content-type": "application/json"})
        assert reply.code == 201
    own = a_pod("own")
    own["metadata"]["labels"] = {ZONE: "mine", "app": "x"}
    for pod in (a_pod("p"), own, a_pod("q"), a_pod("there", nodeName="n1")):
        assert world.post("pods", pod) == ""
    assert world.get(PODS, "there").metadata.labels == {ZONE: "z1", REGION: "r1"}
    for name, target in (("p", "n1"), ("own", "n1"), ("q", "n2")):
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        body = {**binding, "target": {"kind": "Node", "name": target}}
        assert world.send("POST", f"pods/{name}/binding", body)[0] == 201
    assert world.get(PODS, "p").metadata.labels == {ZONE: "z1", REGION: "r1"}
    assert world.get(PODS, "own").metadata.labels == {ZONE: "mine", REGION: "r1", "app": "x"}
    assert world.get(PODS, "q").metadata.labels is None
