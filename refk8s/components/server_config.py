"""How uvicorn serves an application here."""

from typing import Any

import uvicorn

from refk8s.components.websocket import websocket_protocol


def server_config(application: Any, **tls: Any) -> uvicorn.Config:
    """uvicorn's configuration for an application that speaks HTTP and WebSocket. `tls`: files of
    the certificate, if they are loaded now."""
    config = uvicorn.Config(
        application,
        ws="none",
        ws_per_message_deflate=False,
        # A client whose data waits for the container does not answer pings (STREAM-3).
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        **tls,
    )
    config.load()
    config.ws_protocol_class = websocket_protocol  # type: ignore[assignment]
    return config
