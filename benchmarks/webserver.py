"""nginx as it comes: DAV PUT over the same TLS, for clients with the same certificates.

Neither synced nor verified, no index, no log, no receipt: what an upload costs where nobody
promises anything.
"""

import getpass
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from base.serving import Credentials

PROGRAM: Final = Path("/usr/sbin/nginx")
STARTING_SECONDS: Final = 10.0

_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_CONFIG: Final = """\
user {user};
worker_processes {workers};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  {temporary}
  client_max_body_size 16m;
  client_body_buffer_size 128k;
  keepalive_requests 10000000;
  server {{
    listen 127.0.0.1:{port} ssl reuseport;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_certificate {tls.certificate};
    ssl_certificate_key {tls.key};
    ssl_client_certificate {tls.client_authority};
    ssl_verify_client on;
    location / {{ root {folder}/files; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@contextmanager
def webserver(folder: Path, tls: Credentials, workers: int) -> Iterator[int]:
    """Serve below *folder*; yield the port."""
    if not PROGRAM.exists():
        raise RuntimeError(f"{PROGRAM} is missing; run packaging/setup/setup.sh nginx")
    (folder / "files").mkdir(parents=True)
    port = _free_port()
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    config = folder / "nginx.conf"
    text = _CONFIG.format(
        user=getpass.getuser(),
        temporary=temporary,
        folder=folder,
        port=port,
        tls=tls,
        workers=workers,
    )
    config.write_text(text, "utf-8")
    with subprocess.Popen([PROGRAM, "-p", folder, "-c", config, "-e", folder / "error.log"]) as one:
        try:
            _wait_for(port, one)
            yield port
        finally:
            one.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + STARTING_SECONDS
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), STARTING_SECONDS).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("nginx does not listen; see its error.log")
