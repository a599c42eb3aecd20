"""`refk8s apiserver`: the API server as a process of its own. Rules PROC-1 to PROC-3
(spec/processes.md)."""

import asyncio

from refk8s.components.key_maker import start_key_maker
from refk8s.components.options import ServerOptions
from refk8s.components.process import WriteLine, run_process, started


def run_apiserver(options: ServerOptions) -> int:
    """Run until a signal; returns the exit status. CannotRun: nothing was created."""
    keys = start_key_maker(options.shared_pki)

    async def main(write_line: WriteLine, stop: asyncio.Event) -> None:
        from refk8s.components.clock import Clock
        from refk8s.components.component_kubeconfigs import write_component_kubeconfigs
        from refk8s.components.kubelet.clients import KubeletClients
        from refk8s.components.kubelet.metrics import Metrics
        from refk8s.components.pod_streams import PodStreams
        from refk8s.components.served_api import ServedApi

        served = ServedApi(options, Clock(), keys)
        try:
            await served.open()
            await served.serve()
            assert served.api is not None and served.front is not None
            assert served.credentials is not None
            clients = KubeletClients(served.credentials)
            streams = PodStreams(served.api, None, clients.find)
            served.front.connect, served.api.outgoing.reach = streams, streams.reach
            served.api.measure = Metrics(served.api, {}, clients.find).submit
            served.maintain(None)
            write_component_kubeconfigs(
                options.data, options.own_pki, served.url, served.credentials
            )
            started()
            write_line(
                f"refk8s apiserver is ready at {served.url}: "
                f"export KUBECONFIG={options.kubeconfig_path}"
            )
            await stop.wait()
        finally:
            await served.close()

    return run_process(main)
