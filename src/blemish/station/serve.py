"""Serves a workspace."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from blemish.errors import BlemishError, one_line
from blemish.model.locking import SHORT_WAIT, locked
from blemish.parallel import set_allocator
from blemish.station.accounts import create_user, has_users
from blemish.station.app import create_app
from blemish.station.station import Settings
from blemish.station.workspace import Workspace

SWITCH_SECONDS = 0.0005
"""A thread that computes in Python lets others go on after so long. With Python's 5 ms each of the five changes between
threads on an image's way to its answer would wait for that long."""

ARENA_MAX, HEAPS = -8, 2
"""The option of glibc's mallopt, and how many heaps. With one for each thread, each keeps what images left free."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the station is reached."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def create_admin(workspace: Workspace, name: str, password: str) -> None:
    """Creates the first admin; raises BlemishError where there are users already."""
    if has_users(workspace.store):
        raise BlemishError(f"{workspace.root}: has users already. An admin adds others on the page.")
    create_user(workspace.store, name, password, "admin", "blemish serve --init")


def check_address(workspace: Workspace, address: Address) -> None:
    """Raises BlemishError for an address that others reach before there is an admin, and for a bad certificate."""
    if not address.is_loopback and not has_users(workspace.store):
        raise BlemishError(
            f"host {address.host}: others reach it, and the workspace has no admin yet. Run 'blemish serve "
            f"{workspace.root} --init' first, or serve on 127.0.0.1."
        )
    for path in (address.certificate, address.key):
        if path is not None and not path.is_file():
            raise BlemishError(f"certificate {path}: no such file. Give the PEM files of certificate and key.")
    if address.key and not address.certificate:
        raise BlemishError("key: belongs to a certificate. Give --certificate, too.")


def serve(workspace: Workspace, address: Address, settings: Settings) -> None:
    """Serves the workspace until it is interrupted; raises BlemishError where another process does already."""
    check_address(workspace, address)
    alone: AbstractContextManager[object] = nullcontext()
    if workspace.store.is_sqlite:  # several stations share a database on a server
        alone = locked(workspace.root, "blemish serve", SHORT_WAIT)
    sys.setswitchinterval(SWITCH_SECONDS)
    set_allocator({ARENA_MAX: HEAPS})
    with alone, _listening(address) as listening:
        server = uvicorn.Server(_config(workspace, address, settings))
        server.run(sockets=[listening])


def _config(workspace: Workspace, address: Address, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves; raises BlemishError where the certificate cannot be used."""
    config = uvicorn.Config(
        create_app(workspace, settings),
        host=address.host,
        port=address.port,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
        forwarded_allow_ips="127.0.0.1",
    )
    try:
        config.load()
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise BlemishError(f"certificate {address.certificate}: cannot be used ({one_line(error, 120)}).") from None
    return config


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """A socket that listens at the address; raises BlemishError where it is in use or not this machine's."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise BlemishError(f"{address.url}: {error.strerror or error}. Give another --host or --port.") from None
    with found:
        yield found
