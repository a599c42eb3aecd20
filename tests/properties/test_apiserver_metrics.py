"""/metrics of the API server (HTTP-25)."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from test_http import TOKEN, USER, a_server, asked

from refk8s.components import apiserver_metrics
from refk8s.components.apiserver_metrics import ApiServerMetrics
from refk8s.components.http import Front
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.apiserver.config import Config
from refk8s.core.durations import BUCKETS, Durations

MAPS = "/api/v1/namespaces/default/configmaps"
BODY = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"}}'
VERBS = {
    "create": ("POST", MAPS, "POST", "resource"),
    "get": ("GET", f"{MAPS}/a", "GET", "resource"),
    "absent": ("GET", f"{MAPS}/none", "GET", "resource"),
    "list": ("GET", MAPS, "LIST", "namespace"),
    "all": ("GET", "/api/v1/configmaps", "LIST", "cluster"),
    "delete": ("DELETE", f"{MAPS}/a", "DELETE", "resource"),
}


def samples(text):
    """The samples of an exposition, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=12))
@settings(max_examples=15, deadline=None)
def test_http_25_every_request_is_counted_once_under_its_verb_resource_and_code(sequence):
    # Shows HTTP-25.a, HTTP-25.c.
    async def test():
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        expected, seconds = Counter(), Counter()
        for what in sequence:
            method, path, verb, scope = VERBS[what]
            body = BODY % b"a" if method == "POST" else b""
            code, _, _ = await asked(front, method, path, body)
            expected[code, verb, scope] += 1
            seconds[verb, scope] += 1
        code, _, text = await asked(front, "GET", "/metrics")
        assert code == 200
        found = samples(text.decode())
        totals = {
            (int(of["code"]), of["verb"], of["scope"]): value
            for (name, labels), value in found.items()
            if name == "apiserver_request_total" and (of := dict(labels))["resource"]
        }
        assert totals == expected
        for (name, labels), value in found.items():
            if name == "apiserver_request_duration_seconds_count" and dict(labels)["resource"]:
                of = dict(labels)
                assert value == seconds[of["verb"], of["scope"]]
                assert (of["resource"], of["version"], of["component"]) == (
                    "configmaps",
                    "v1",
                    "apiserver",
                )
        objects = {
            dict(labels)["resource"]: value
            for (name, labels), value in found.items()
            if name == "apiserver_storage_objects"
        }
        stored = len(front.api.store.list("/core/configmaps/").records)
        assert objects.get("configmaps", 0) == stored and objects["namespaces"] > 0
        kinds = {
            dict(labels)["request_kind"]: value
            for (name, labels), value in found.items()
            if name == "apiserver_current_inflight_requests"
        }
        assert kinds == {"mutating": 0, "readOnly": 1}, "the request for /metrics is in flight"
        assert ("process_resident_memory_bytes", ()) in found

    asyncio.run(test())


def test_http_25_a_user_without_permission_gets_nothing():
    # Shows HTTP-25.a.
    async def test():
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        code, _, text = await asked(front, "GET", "/metrics", authorization="Bearer none")
        assert code == 401 and b"apiserver_" not in text

    asyncio.run(test())


def test_http_25_a_watch_is_long_running_and_not_in_flight():
    metrics = ApiServerMetrics()
    meter = metrics.begin("GET")
    assert metrics._in_flight == {"mutating": 0, "readOnly": 1}
    metrics.run_long(meter, Request("watch", PODS, "default"))
    assert metrics._in_flight == {"mutating": 0, "readOnly": 0}
    assert metrics._long == {("", "pods", "WATCH", "v1"): 1}
    metrics.end(meter)
    assert metrics._in_flight == {"mutating": 0, "readOnly": 0} and not metrics._long
    [(key, series)] = metrics._series.items()
    assert key[5] == "WATCH" and series.codes == {200: 1}


def test_http_25_the_number_of_series_is_bounded(monkeypatch):
    # Shows HTTP-25.d.
    monkeypatch.setattr(apiserver_metrics, "SERIES_MAX", 5)
    metrics = ApiServerMetrics()
    for number in range(20):
        meter = metrics.begin("GET")
        meter.request, meter.code = Request("get", PODS, "default", "a", f"part-{number}"), 200
        metrics.end(meter)
    assert len(metrics._series) <= 6
    assert sum(series.codes[200] for series in metrics._series.values()) == 20


@given(st.lists(st.floats(0, 100), max_size=40))
def test_http_25_each_bucket_has_the_durations_up_to_its_bound(seconds):
    durations = Durations()
    for each in seconds:
        durations.add(each)
    for (text, count), bound in zip(durations.buckets(), (*BUCKETS, float("inf")), strict=True):
        assert count == sum(each <= bound for each in seconds)
        assert float(text.replace("+Inf", "inf")) == bound
    assert durations.count == len(seconds)


HEALTH = st.lists(
    st.tuples(
        st.sampled_from(["/healthz", "/livez", "/readyz", "/livez/etcd", "/readyz/"]),
        st.sampled_from(["", "verbose", "exclude=etcd", "exclude=etcd&exclude=ping"]),
        st.booleans(),
    ),
    max_size=5,
)


@given(HEALTH)
def test_http_31_the_last_result_and_the_number_of_each_check(requests):
    """Against a plain count of what the answers say."""

    async def run() -> None:
        front = Front(await a_server(config=Config(users={TOKEN: USER})))
        last: dict[tuple[str, str], int] = {}
        counts: dict[tuple[str, str, str], int] = {}
        for path, query, is_broken in requests:
            front.api._store_problem = "broken" if is_broken else ""
            shown = f"{query}&verbose".strip("&").encode()
            _, _, text = await asked(front, "GET", path, query=shown)
            kind = path.strip("/")
            for line in text.decode().splitlines() if "/" not in kind else ():
                if line.startswith(("[+]", "[-]")) and "excluded" not in line:
                    name = line[3:].split(" ")[0]
                    status = "success" if line[1] == "+" else "error"
                    last[name, kind] = int(line[1] == "+")
                    counts[name, status, kind] = counts.get((name, status, kind), 0) + 1
        code, _, text = await asked(front, "GET", "/metrics/slis")
        lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
        found = dict(line.rsplit(" ", 1) for line in lines)
        wanted = {
            f'kubernetes_healthcheck{{name="{name}",type="{kind}"}}': float(passed)
            for (name, kind), passed in last.items()
        } | {
            f'kubernetes_healthchecks_total{{name="{name}",status="{status}",type="{kind}"}}': count
            for (name, status, kind), count in counts.items()
        }
        assert code == 200 and {key: float(value) for key, value in found.items()} == wanted
        assert (await asked(front, "GET", "/metrics/slis", authorization="Bearer no"))[0] == 401
        front.api.stop()

    asyncio.run(run())
