"""Tables: a row for every object of every kind, and the words that `kubectl get` shows. Rules
TABLE-1 ... TABLE-12."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import objects

from refk8s.core.api import codec
from refk8s.core.api import resources as table
from refk8s.core.api.meta_v1 import ListMeta, Object, PartialObjectMetadata
from refk8s.core.api.resources import ALL, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.table import layout_of, to_table
from refk8s.core.apiserver.table.duration import DAY, HOUR, MINUTE, YEAR, age, human_duration
from refk8s.core.apiserver.table.layout import selector_text
from refk8s.core.context import SECOND, parse_timestamp, timestamp

NOW = parse_timestamp("2026-06-01T12:00:00Z")
LISTED = [resource for resource in ALL if "get" in resource.verbs]
SCALE = table.type_of_kind("autoscaling/v1", "Scale")


def ago(seconds: int) -> str:
    return timestamp(NOW - seconds * SECOND)


def make(resource: Resource, tree: dict[str, Any]) -> Object:
    return codec.from_tree(
        resource.type, {"kind": resource.kind, "apiVersion": resource.api_version, **tree}
    )


def row(resource: Resource, tree: dict[str, Any]) -> dict[str, Any]:
    """The cells of one object by the names of their columns."""
    shown = to_table(resource, [make(resource, tree)], NOW)
    return dict(
        zip(
            [column.name for column in shown["columnDefinitions"]],
            shown["rows"][0]["cells"],
            strict=True,
        )
    )


# --- tables as such


@pytest.mark.parametrize("resource", LISTED, ids=lambda resource: repr(resource))
@settings(max_examples=max(5, settings().max_examples // 10))
@given(st.data())
def test_table_1_any_object_of_any_kind_has_a_cell_for_each_column_of_a_type_that_fits(
    resource: Resource, data: st.DataObject
) -> None:
    those = data.draw(st.lists(objects(resource.type), min_size=1, max_size=2))
    shown = to_table(resource, those, NOW)
    assert len(shown["rows"]) == len(those)
    for line in shown["rows"]:
        assert len(line["cells"]) == len(shown["columnDefinitions"])
        for column, cell in zip(shown["columnDefinitions"], line["cells"], strict=True):
            if column.type == "integer":
                assert type(cell) is int
            elif column.type == "boolean":
                assert type(cell) is bool or cell in ("True", "False", "<unset>")
            elif column.type == "date":
                assert cell is None or parse_timestamp(cell)
            else:
                assert isinstance(cell, str | int)
    assert msgspec.json.decode(msgspec.json.encode(shown))["kind"] == "Table"


@pytest.mark.parametrize("resource", LISTED, ids=lambda resource: repr(resource))
def test_table_1_columns_begin_with_the_name_and_have_a_description(resource: Resource) -> None:
    columns = layout_of(resource.group, resource.kind).columns
    names = [column.name for column in columns]
    assert len(set(names)) == len(names) and all(
        column.description and column.priority in (0, 1) for column in columns
    )
    if resource.kind != "Event":
        assert names[0] == "Name"
    assert [column.format for column in columns if column.name == "Name"] == (
        [""] if resource.kind in ("StorageVersionMigration", "Scale") else ["name"]
    )


def test_table_2_a_kind_without_columns_shows_name_and_creation_time() -> None:
    shown = to_table(
        table.ROLES,
        [make(table.ROLES, {"metadata": {"name": "a", "creationTimestamp": ago(5)}})],
        NOW,
    )
    assert [(column.name, column.type) for column in shown["columnDefinitions"]] == [
        ("Name", "string"),
        ("Created At", "date"),
    ]
    assert list(shown["rows"][0]["cells"]) == ["a", ago(5)]


def test_table_2_a_custom_resource_shows_name_and_age_whatever_it_holds() -> None:
    crontabs = Resource("example.com", "v1", "crontabs", "crontab", "CronTab", True)
    trees: list[Any] = [
        {"metadata": {"name": "a", "creationTimestamp": ago(90)}, "spec": 1},
        {"metadata": {"creationTimestamp": 5}},
        {},
    ]
    shown = to_table(crontabs, trees, NOW)
    assert [line["cells"] for line in shown["rows"]] == [
        ["a", "90s"],
        ["", "<unknown>"],
        ["", "<unknown>"],
    ]
    assert shown["rows"][0]["object"]["metadata"] == trees[0]["metadata"]


def test_table_3_a_row_carries_metadata_or_the_object_or_nothing() -> None:
    role = make(
        table.ROLES,
        {"metadata": {"name": "a", "labels": {"x": "y"}}, "rules": [{"verbs": ["get"]}]},
    )
    for include in ("", "Metadata"):
        shown = to_table(table.ROLES, [role], NOW, include_object=include)["rows"][0]["object"]
        assert shown == PartialObjectMetadata(metadata=role.metadata)
    assert to_table(table.ROLES, [role], NOW, include_object="Object")["rows"][0]["object"] == role
    assert to_table(table.ROLES, [role], NOW, include_object="None")["rows"][0]["object"] is None


@given(st.text(max_size=8))
def test_table_3_any_other_choice_is_a_bad_request(include: str) -> None:
    if include not in ("", "None", "Metadata", "Object"):
        with pytest.raises(ApiError) as raised:
            to_table(table.ROLES, [], NOW, include_object=include)
        assert raised.value.status.code == 400


def test_table_4_a_table_bears_the_metadata_of_its_list_or_the_version_of_its_one_object() -> None:
    role = make(table.ROLES, {"metadata": {"name": "a", "resourceVersion": "7"}})
    metadata = ListMeta(resource_version="9", continue_="more", remaining_item_count=3)
    assert to_table(table.ROLES, [role], NOW, list_metadata=metadata)["metadata"] == metadata
    assert to_table(table.ROLES, [role], NOW)["metadata"] == ListMeta(resource_version="7")
    assert (
        to_table(table.ROLES, [], NOW, list_metadata=ListMeta(resource_version="9"))["rows"] == []
    )
    not_stored = make(table.ROLES, {"metadata": {"name": "a"}})
    assert codec.to_tree(to_table(table.ROLES, [not_stored], NOW)["metadata"]) == {}


def test_table_5_a_watch_sends_the_columns_once() -> None:
    role = make(table.ROLES, {"metadata": {"name": "a"}})
    assert to_table(table.ROLES, [role], NOW)["columnDefinitions"]
    assert to_table(table.ROLES, [role], NOW, columns=False)["columnDefinitions"] is None


def test_table_12_a_subresource_is_shown_as_its_own_kind() -> None:
    scale = codec.from_tree(
        SCALE, {"metadata": {"name": "a"}, "spec": {"replicas": 3}, "status": {"replicas": 2}}
    )  # type: ignore[arg-type]
    shown = to_table(table.DEPLOYMENTS, [scale], NOW)
    assert [column.name for column in shown["columnDefinitions"]] == [
        "Name",
        "Desired",
        "Available",
        "Age",
    ]
    assert list(shown["rows"][0]["cells"])[:3] == ["a", 3, 2]


# --- durations

UNITS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "y": YEAR}


def seconds_of(text: str) -> tuple[int, int]:
    """The seconds that a text stands for, and the size of its smallest unit shown (or that could
    have been shown)."""
    parts = re.findall(r"(\d+)([smhdy])", text)
    assert "".join(number + unit for number, unit in parts) == text and 1 <= len(parts) <= 2
    return sum(int(number) * UNITS[unit] for number, unit in parts), UNITS[parts[-1][1]]


@given(st.integers(0, 30 * YEAR))
def test_table_6_a_duration_is_rounded_down_by_less_than_its_last_unit(seconds: int) -> None:
    told, unit = seconds_of(human_duration(seconds * SECOND))
    assert told <= seconds < told + unit


@given(st.integers(0, 30 * YEAR), st.integers(0, 30 * YEAR))
def test_table_6_longer_is_never_told_as_shorter(one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert (
        seconds_of(human_duration(short * SECOND))[0]
        <= seconds_of(human_duration(long * SECOND))[0]
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "<invalid>"), (-1, "0s"), (0, "0s"), (1, "1s"), (119, "119s"), (120, "2m"), (121, "2m1s"), (599, "9m59s"), (600, "10m"),
        (3 * HOUR - 1, "179m"), (3 * HOUR, "3h"), (3 * HOUR + 60, "3h1m"), (8 * HOUR - 1, "7h59m"), (8 * HOUR, "8h"), (8 * HOUR + 60, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"), (2 * DAY + HOUR, "2d1h"), (8 * DAY - 1, "7d23h"), (8 * DAY, "8d"), (2 * YEAR - 1, "729d"), (2 * YEAR, "2y"),
        (2 * YEAR + DAY, "2y1d"), (8 * YEAR - 1, "7y364d"), (8 * YEAR, "8y"), (100 * YEAR, "100y"),
    ],
)  # fmt: skip
def test_table_6_where_the_units_change(seconds: int, text: str) -> None:
    assert human_duration(seconds * SECOND) == text


def test_table_6_no_time_is_unknown() -> None:
    assert [age(text, NOW) for text in (None, "", "yesterday", ago(5), 3)] == [
        "<unknown>",
        "<unknown>",
        "<unknown>",
        "5s",
        "<unknown>",
    ]


# --- pods


def running(name: str = "c", ready: bool = True, restarts: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "i",
        "imageID": "",
        "ready": ready,
        "restartCount": restarts,
        "state": {"running": {}},
        **more,
    }


def waiting(reason: str, name: str = "c", restarts: int = 0, **more: Any) -> dict[str, Any]:
    return {**running(name, False, restarts), "state": {"waiting": {"reason": reason}}, **more}


def ended(code: int, reason: str = "", name: str = "c", signal: int = 0) -> dict[str, Any]:
    return {
        **running(name, False),
        "state": {"terminated": {"exitCode": code, "reason": reason, "signal": signal}},
    }


def pod_row(
    status: dict[str, Any], spec: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    whole = {"containers": [{"name": "c", "image": "i"}], **(spec or {})}
    metadata = {"name": "p", "creationTimestamp": ago(300), **metadata}
    return row(
        table.PODS, {"metadata": metadata, "spec": whole, "status": {"phase": "Running", **status}}
    )


READY = [{"type": "Ready", "status": "True"}]
INIT = {"initContainers": [{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}]}
SIDECAR = {"initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}]}


@pytest.mark.parametrize(
    ("status", "spec", "word", "ready"),
    [
        ({"phase": "Pending"}, {}, "Pending", "0/1"),
        ({"containerStatuses": [running()], "conditions": READY}, {}, "Running", "1/1"),
        ({"containerStatuses": [running(ready=False)]}, {}, "Running", "0/1"),
        ({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, {}, "ContainerCreating", "0/1"),
        ({"containerStatuses": [waiting("CrashLoopBackOff")]}, {}, "CrashLoopBackOff", "0/1"),
        ({"phase": "Pending", "containerStatuses": [waiting("ErrImagePull")]}, {}, "ErrImagePull", "0/1"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, {}, "Completed", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}, {}, "Error", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(137, "OOMKilled")]}, {}, "OOMKilled", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(3)]}, {}, "ExitCode:3", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(137, signal=9)]}, {}, "Signal:9", "0/1"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "Evicted", "0/1"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, {},
         "SchedulingGated", "0/1"),
        # The first container has the last word, and one that ended well does not hide one that
        # runs.
        ({"containerStatuses": [waiting("CrashLoopBackOff"), ended(1, "Error", "d")]}, {}, "CrashLoopBackOff", "0/1"),
        ({"containerStatuses": [ended(0, "Completed"), running("d")], "conditions": READY}, {}, "Running", "1/1"),
        ({"containerStatuses": [ended(0, "Completed"), running("d")]}, {}, "NotReady", "1/1"),
        # Init containers.
        ({"phase": "Pending", "initContainerStatuses": [running("i1"), waiting("PodInitializing", "i2")]}, INIT, "Init:0/2", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing", "i1"), waiting("PodInitializing", "i2")]}, INIT,
         "Init:0/2", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0, "Completed", "i1"), running("i2")],
          "containerStatuses": [waiting("PodInitializing")]}, INIT, "Init:1/2", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(1, "Error", "i1")]}, INIT, "Init:Error", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(4, "", "i1")]}, INIT, "Init:ExitCode:4", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0, "", "i1"), ended(1, "", "i2", 15)]}, INIT, "Init:Signal:15", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff", "i1")]}, INIT, "Init:CrashLoopBackOff", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0, "Completed", "i1"), ended(0, "Completed", "i2")],
          "containerStatuses": [waiting("PodInitializing")]}, INIT, "PodInitializing", "0/1"),
        # An init container that is started again after the pod was initialized does not hide the
        # containers.
        ({"initContainerStatuses": [running("i1")], "containerStatuses": [running()],
          "conditions": [{"type": "Initialized", "status": "True"}, *READY]}, INIT, "Init:0/2", "1/1"),
        # A sidecar counts as a container.
        ({"initContainerStatuses": [running("s", started=True)], "containerStatuses": [running()], "conditions": READY}, SIDECAR,
         "Running", "2/2"),
        ({"phase": "Pending", "initContainerStatuses": [running("s", started=False)]}, SIDECAR, "Init:0/1", "0/2"),
    ],
)  # fmt: skip
def test_table_8_one_word_says_how_a_pod_is(
    status: dict[str, Any], spec: dict[str, Any], word: str, ready: str
) -> None:
    shown = pod_row(status, spec)
    assert (shown["Status"], shown["Ready"]) == (word, ready)


def test_table_8_a_pod_that_is_being_deleted_is_terminating_unless_it_has_ended_or_its_node_is_lost() -> (
    None
):
    gone = {"deletionTimestamp": ago(0)}
    assert pod_row({"containerStatuses": [running()]}, **gone)["Status"] == "Terminating"
    assert (
        pod_row({"containerStatuses": [waiting("CrashLoopBackOff")]}, **gone)["Status"]
        == "Terminating"
    )
    assert (
        pod_row({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, **gone)[
            "Status"
        ]
        == "Completed"
    )
    assert (
        pod_row({"reason": "NodeLost", "containerStatuses": [running()]}, **gone)["Status"]
        == "Unknown"
    )


def test_table_8_a_pod_that_has_ended_is_marked_in_its_row() -> None:
    for phase, marked in (("Succeeded", True), ("Failed", True), ("Running", False)):
        shown = to_table(
            table.PODS,
            [make(table.PODS, {"spec": {"containers": []}, "status": {"phase": phase}})],
            NOW,
        )["rows"][0]
        assert [(one.type, one.reason) for one in shown.get("conditions", ())] == (
            [("Completed", phase)] if marked else []
        )


def last(seconds: int) -> dict[str, Any]:
    return {"lastState": {"terminated": {"exitCode": 1, "finishedAt": ago(seconds)}}}


def test_table_9_restarts_are_counted_and_the_latest_is_dated() -> None:
    assert pod_row({"containerStatuses": [running()]})["Restarts"] == "0"
    assert pod_row({"containerStatuses": [running(restarts=2)]})["Restarts"] == "2"
    assert (
        pod_row(
            {
                "containerStatuses": [
                    running(restarts=2, **last(5)),
                    running("d", restarts=1, **last(90)),
                ]
            }
        )["Restarts"]
        == "3 (5s ago)"
    )
    # Those of init containers count while the pod is initializing; afterwards only those of
    # sidecars do.
    init = {"initContainerStatuses": [waiting("CrashLoopBackOff", "i1", 4, **last(30))]}
    assert pod_row({"phase": "Pending", **init}, INIT)["Restarts"] == "4 (30s ago)"
    done = {
        "initContainerStatuses": [
            {**ended(0, "Completed", "i1"), "restartCount": 4},
            ended(0, "Completed", "i2"),
        ]
    }
    assert pod_row({**done, "containerStatuses": [running()]}, INIT)["Restarts"] == "0"
    side = {
        "initContainerStatuses": [running("s", restarts=1, started=True, **last(10))],
        "containerStatuses": [running(restarts=1)],
    }
    assert pod_row(side, SIDECAR)["Restarts"] == "2 (10s ago)"


def test_table_8_wide_output_tells_address_node_and_gates() -> None:
    bare = pod_row({"phase": "Pending"})
    assert [bare[name] for name in ("IP", "Node", "Nominated Node", "Readiness Gates")] == [
        "<none>"
    ] * 4
    status = {
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}],
    }
    gates = {
        "nodeName": "n",
        "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}, {"conditionType": "c"}],
    }
    shown = pod_row(status, gates)
    assert [shown[name] for name in ("IP", "Node", "Readiness Gates", "Age")] == [
        "10.0.0.1",
        "n",
        "1/3",
        "5m",
    ]


# --- services, endpoints, nodes


@pytest.mark.parametrize(
    ("spec", "status", "external"),
    [
        ({"type": "ClusterIP"}, {}, "<none>"),
        ({"type": "ClusterIP", "externalIPs": ["1.1.1.1", "2.2.2.2"]}, {}, "1.1.1.1,2.2.2.2"),
        ({"type": "NodePort"}, {}, "<none>"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        (
            {"type": "LoadBalancer"},
            {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}, {"hostname": "a.example"}]}},
            "9.9.9.9,a.example",
        ),
        (
            {"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]},
            {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}},
            "9.9.9.9,1.1.1.1",
        ),
        ({"type": "ExternalName", "externalName": "b.example"}, {}, "b.example"),
    ],
)
def test_table_11_the_external_address_of_a_service_is_by_its_type(
    spec: dict[str, Any], status: dict[str, Any], external: str
) -> None:
    assert row(table.SERVICES, {"spec": spec, "status": status})["External-IP"] == external


def test_table_11_ports_of_a_service() -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]
    shown = row(
        table.SERVICES,
        {
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.0.0.9",
                "clusterIPs": ["10.0.0.9"],
                "ports": ports,
                "selector": {"a": "b"},
            }
        },
    )
    assert (shown["Port(s)"], shown["Cluster-IP"], shown["Selector"]) == (
        "80:30080/TCP,53/UDP",
        "10.0.0.9",
        "a=b",
    )
    bare = row(table.SERVICES, {"spec": {"type": "ExternalName"}})
    assert (bare["Port(s)"], bare["Cluster-IP"], bare["Selector"]) == ("<none>", "<none>", "<none>")


@pytest.mark.parametrize(
    ("addresses", "ports", "text"),
    [
        (0, [80], ""),
        (1, [80], "10.0.0.0:80"),
        (2, [], "10.0.0.0,10.0.0.1"),
        (3, [80], "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80"),
        (5, [80], "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."),
        (2, [80, 81], "10.0.0.0:80,10.0.0.1:80,10.0.0.0:81 + 1 more..."),
    ],
)
def test_table_7_three_endpoints_and_how_many_more(
    addresses: int, ports: list[int], text: str
) -> None:
    subset = {
        "addresses": [{"ip": f"10.0.0.{number}"} for number in range(addresses)],
        "ports": [{"port": port} for port in ports],
    }
    assert row(table.ENDPOINTS, {"subsets": [subset]})["Endpoints"] == text
    assert row(table.ENDPOINTS, {})["Endpoints"] == "<none>"


def test_table_7_endpoints_of_ipv6_stand_in_brackets_and_slices_show_addresses_and_ports() -> None:
    assert (
        row(
            table.ENDPOINTS,
            {"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 1}]}]},
        )["Endpoints"]
        == "[fd00::1]:1"
    )
    slice_ = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(4)],
        "ports": [{"port": 80}, {"name": "x"}, {}],
    }
    shown = row(table.ENDPOINT_SLICES, slice_)
    assert (shown["Ports"], shown["Endpoints"]) == (
        "80,x,*",
        "10.0.0.0,10.0.0.1,10.0.0.2 + 1 more...",
    )
    empty = row(table.ENDPOINT_SLICES, {"addressType": "IPv4", "endpoints": []})
    assert (empty["Ports"], empty["Endpoints"]) == ("<unset>", "<unset>")


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "status"),
    [
        ([], False, "Unknown"),
        ([], True, "Unknown,SchedulingDisabled"),
        ([{"type": "Ready", "status": "True"}], False, "Ready"),
        ([{"type": "Ready", "status": "True"}], True, "Ready,SchedulingDisabled"),
        ([{"type": "Ready", "status": "False"}], False, "NotReady"),
        ([{"type": "Ready", "status": "Unknown"}], False, "NotReady"),
        ([{"type": "MemoryPressure", "status": "True"}], False, "Unknown"),
    ],
)
def test_table_11_the_status_of_a_node(
    conditions: list[Any], unschedulable: bool, status: str
) -> None:
    tree = {"spec": {"unschedulable": unschedulable}, "status": {"conditions": conditions}}
    assert row(table.NODES, tree)["Status"] == status


def test_table_11_the_roles_and_addresses_of_a_node() -> None:
    labels = {
        "node-role.kubernetes.io/worker": "",
        "node-role.kubernetes.io/edge": "",
        "kubernetes.io/role": "old",
        "node-role.kubernetes.io/": "",
    }
    addresses = [
        {"type": "Hostname", "address": "n"},
        {"type": "InternalIP", "address": "1.1.1.1"},
        {"type": "InternalIP", "address": "2.2.2.2"},
    ]
    shown = row(
        table.NODES,
        {
            "metadata": {"labels": labels},
            "status": {"addresses": addresses, "nodeInfo": {"kubeletVersion": "v1.37.0"}},
        },
    )
    assert (shown["Roles"], shown["Internal-IP"], shown["External-IP"]) == (
        "edge,old,worker",
        "1.1.1.1",
        "<none>",
    )
    assert (shown["Version"], shown["OS-Image"]) == ("v1.37.0", "<unknown>")
    assert row(table.NODES, {})["Roles"] == "<none>"


# --- workloads


def test_table_10_deployments_and_replica_sets() -> None:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "i:2"}]},
    }
    spec = {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"}}, "template": template}
    status = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}
    shown = row(table.DEPLOYMENTS, {"metadata": {"name": "w"}, "spec": spec, "status": status})
    assert list(shown.values()) == ["w", "2/3", 3, 1, "<unknown>", "c,d", "i:1,i:2", "a=1,b=2"]
    fresh = row(
        table.REPLICA_SETS, {"metadata": {"name": "w"}, "spec": spec, "status": {"replicas": 0}}
    )
    assert [fresh[name] for name in ("Desired", "Current", "Ready")] == [3, 0, 0]


@pytest.mark.parametrize(
    ("spec", "status", "metadata", "shown"),
    [
        ({"completions": 3}, {"succeeded": 1, "startTime": ago(70)}, {}, ("Running", "1/3", "70s")),
        ({}, {}, {}, ("Running", "0/1", "")),
        ({"parallelism": 2}, {"succeeded": 1}, {}, ("Running", "1/1 of 2", "")),
        ({"completions": 1}, {"startTime": ago(70), "completionTime": ago(60), "conditions": [{"type": "Complete", "status": "True"}]}, {},
         ("Complete", "0/1", "10s")),
        ({"completions": 1}, {"conditions": [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}]}, {},
         ("Failed", "0/1", "")),
        ({"completions": 1}, {"conditions": [{"type": "FailureTarget", "status": "True"}]}, {}, ("FailureTarget", "0/1", "")),
        ({"completions": 1}, {"conditions": [{"type": "Suspended", "status": "True"}]}, {}, ("Suspended", "0/1", "")),
        ({"completions": 1}, {"conditions": [{"type": "Suspended", "status": "False"}]}, {}, ("Running", "0/1", "")),
        ({"completions": 1}, {"conditions": [{"type": "Suspended", "status": "True"}]}, {"deletionTimestamp": ago(1)},
         ("Terminating", "0/1", "")),
    ],
)  # fmt: skip
def test_table_10_how_far_a_job_is(
    spec: Any, status: Any, metadata: Any, shown: tuple[str, str, str]
) -> None:
    spec = {"template": {"spec": {"containers": []}}, **spec}
    found = row(table.JOBS, {"metadata": metadata, "spec": spec, "status": status})
    assert (found["Status"], found["Completions"], found["Duration"]) == shown


def test_table_10_cron_jobs_autoscalers_and_disruption_budgets() -> None:
    cron = row(
        table.CRON_JOBS,
        {
            "spec": {"schedule": "* * * * *", "suspend": False, "jobTemplate": {}},
            "status": {"lastScheduleTime": ago(30)},
        },
    )
    assert [
        cron[name] for name in ("Schedule", "Timezone", "Suspend", "Active", "Last Schedule")
    ] == [
        "* * * * *",
        "<none>",
        "False",
        0,
        "30s",
    ]
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "w"}, "maxReplicas": 5}
    hpa = row(
        table.HORIZONTAL_POD_AUTOSCALERS,
        {"spec": {**target, "metrics": [{"type": "Resource", "resource": resource}] * 3}},
    )
    assert (hpa["Reference"], hpa["Targets"], hpa["MinPods"]) == (
        "Deployment/w",
        "cpu: <unknown>/80%, cpu: <unknown>/80% + 1 more...",
        "<unset>",
    )
    current = {"currentReplicas": 1, "desiredReplicas": 1, "currentCPUUtilizationPercentage": 30}
    old = row(
        table.HORIZONTAL_POD_AUTOSCALERS_V1,
        {"spec": {**target, "targetCPUUtilizationPercentage": 80}, "status": current},
    )
    assert old["Targets"] == "cpu: 30%/80%"
    budget = row(
        table.POD_DISRUPTION_BUDGETS,
        {"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 1}},
    )
    assert [
        budget[name] for name in ("Min Available", "Max Unavailable", "Allowed Disruptions")
    ] == ["N/A", "25%", 1]


# --- events, storage and the rest


def test_table_11_events_of_both_groups_show_the_same() -> None:
    about = {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}
    old = {"involvedObject": about, "reason": "Pulled", "message": " done\n", "type": "Normal", "count": 3, "firstTimestamp": ago(60),
           "lastTimestamp": ago(5), "source": {"component": "kubelet", "host": "n"}}  # fmt: skip
    new = {
        "regarding": about,
        "reason": "Pulled",
        "note": " done\n",
        "type": "Normal",
        "deprecatedCount": 3,
        "deprecatedFirstTimestamp": ago(60),
        "deprecatedLastTimestamp": ago(5),
        "deprecatedSource": {"component": "kubelet", "host": "n"},
    }
    expected = [
        "5s",
        "Normal",
        "Pulled",
        "pod/p",
        "spec.containers{c}",
        "kubelet, n",
        "done",
        "60s",
        3,
        "",
    ]
    assert (
        list(row(table.EVENTS, old).values())
        == list(row(table.EVENTS_V1, new).values())
        == expected
    )


def test_table_11_an_event_series_tells_when_it_was_last_seen_and_a_single_event_counts_one() -> (
    None
):
    single = {
        "involvedObject": {},
        "eventTime": ago(40)[:-1] + ".000000Z",
        "reportingComponent": "scheduler",
    }
    shown = row(table.EVENTS, single)
    assert (
        shown["Last Seen"],
        shown["First Seen"],
        shown["Count"],
        shown["Source"],
        shown["Object"],
    ) == ("40s", "40s", 1, "scheduler", "")
    series = {**single, "series": {"count": 9, "lastObservedTime": ago(2)[:-1] + ".000000Z"}}
    assert (row(table.EVENTS, series)["Last Seen"], row(table.EVENTS, series)["Count"]) == ("2s", 9)


def test_table_11_volumes_and_claims() -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce", "ReadWriteMany"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "a", "name": "b"}, "volumeMode": "Filesystem"}  # fmt: skip
    volume = row(
        table.PERSISTENT_VOLUMES,
        {"metadata": {"name": "v"}, "spec": spec, "status": {"phase": "Bound"}},
    )
    assert list(volume.values())[:7] == ["v", "1Gi", "RWO,RWX", "Retain", "Bound", "a/b", "fast"]
    claim_spec = {"volumeName": "v", "accessModes": ["ReadWriteOncePod"]}
    status = {"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOncePod"]}
    claim = row(
        table.PERSISTENT_VOLUME_CLAIMS,
        {"metadata": {"name": "c"}, "spec": claim_spec, "status": status},
    )
    assert list(claim.values())[:5] == ["c", "Bound", "v", "2Gi", "RWOP"]
    pending = row(
        table.PERSISTENT_VOLUME_CLAIMS,
        {
            "metadata": {"deletionTimestamp": ago(1)},
            "spec": {},
            "status": {**status, "phase": "Pending"},
        },
    )
    assert (pending["Status"], pending["Capacity"], pending["Access Modes"]) == (
        "Terminating",
        "",
        "",
    )
    default = {
        "metadata": {
            "name": "s",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "x",
    }
    assert list(row(table.STORAGE_CLASSES, default).values())[:5] == [
        "s (default)",
        "x",
        "Delete",
        "Immediate",
        False,
    ]


def test_table_11_quotas_role_bindings_and_signing_requests() -> None:
    hard = {"limits.cpu": "2", "cpu": "1", "pods": "5"}
    quota = row(table.RESOURCE_QUOTAS, {"status": {"hard": hard, "used": {"pods": "2"}}})
    assert (quota["Request"], quota["Limit"]) == ("cpu: 0/1, pods: 2/5", "limits.cpu: 0/2")
    subjects = [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"},
                {"kind": "User", "name": "v"}]  # fmt: skip
    binding = row(
        table.ROLE_BINDINGS,
        {"roleRef": {"kind": "Role", "name": "r", "apiGroup": "x"}, "subjects": subjects},
    )
    assert [binding[name] for name in ("Role", "Users", "Groups", "ServiceAccounts")] == [
        "Role/r",
        "u, v",
        "g",
        "n/s",
    ]
    request = {
        "spec": {"signerName": "x", "request": "", "expirationSeconds": 3600},
        "status": {"certificate": "AA==", "conditions": [{"type": "Approved", "status": "True"}]},
    }
    shown = row(table.CERTIFICATE_SIGNING_REQUESTS, request)
    assert (shown["Condition"], shown["RequestedDuration"]) == ("Approved,Issued", "60m")


def test_table_11_an_address_shows_what_uses_it_and_no_age() -> None:
    """As upstream, which has no column for the age."""
    parent = {"group": "a.b", "resource": "Things", "namespace": "n", "name": "x"}
    shown = row(table.IP_ADDRESSES, {"spec": {"parentRef": parent}})
    assert list(shown) == ["Name", "ParentRef"] and shown["ParentRef"] == "things.a.b/n/x"
    parent = {"resource": "nodes", "name": "x"}
    shown = row(table.IP_ADDRESSES, {"spec": {"parentRef": parent}})
    assert shown["ParentRef"] == "nodes/x"


def test_table_11_ingresses() -> None:
    rules = [{"host": f"{letter}.example"} for letter in "abcde"]
    shown = row(
        table.INGRESSES,
        {
            "spec": {"rules": rules, "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}},
        },
    )
    assert (shown["Hosts"], shown["Ports"], shown["Address"]) == (
        "a.example,b.example,c.example + 2 more...",
        "80, 443",
        "1.1.1.1",
    )
    assert row(table.INGRESSES, {})["Hosts"] == "*"


def test_table_11_selectors_as_text() -> None:
    expressions = [{"key": "z", "operator": "Exists"}, {"key": "a", "operator": "NotIn", "values": ["y", "x"]},
                   {"key": "b", "operator": "DoesNotExist"}, {"key": "c", "operator": "In", "values": ["v"]}]  # fmt: skip
    policy: Any = make(
        table.NETWORK_POLICIES,
        {"spec": {"podSelector": {"matchLabels": {"m": "n"}, "matchExpressions": expressions}}},
    )
    assert selector_text(policy.spec.pod_selector) == "a notin (x,y),!b,c in (v),m=n,z"
    assert row(table.NETWORK_POLICIES, {"spec": {"podSelector": {}}})["Pod-Selector"] == "<none>"
