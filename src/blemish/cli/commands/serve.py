"""`blemish serve`: the station, a web page to teach, decide, inspect and review."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.terminal import console, errors
from blemish.errors import BlemishError

PASSWORD = "BLEMISH_ADMIN_PASSWORD"
"""The environment variable from which --init takes the password where there is no terminal."""


def serve_command(
    workspace: Annotated[Path, typer.Argument(help="Folder of the station; created where it is missing.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than loopback only after --init.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8765,
    init: Annotated[bool, typer.Option("--init", help="Create the first admin, who has to log in, and stop.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Make a product of the built-in data first.")] = False,
    admin: Annotated[str, typer.Option(help="Name of the first admin, for --init.")] = "admin",
    database: Annotated[
        str | None, typer.Option(help="postgresql+psycopg://USER:PASSWORD@HOST/NAME; default: in the workspace.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Runtime: torch, onnx, openvino, or auto.")] = "auto",
    folder: Annotated[
        list[Path] | None, typer.Option(help="Folder of this machine that images may be taken from, repeatable.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Certificate for https, a PEM file.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate, a PEM file.")] = None,
    behind_https: Annotated[
        bool, typer.Option("--behind-https", help="A proxy speaks https to browsers: send cookies by https alone.")
    ] = False,
    keep_free: Annotated[int, typer.Option(min=0, help="MB of the disk that images do not fill.")] = 1024,
    restore: Annotated[Path | None, typer.Option(help="Put this backup into the new WORKSPACE first.")] = None,
) -> None:
    """Open the station: a web page to teach, decide, inspect, review and improve, and an interface for programs.

    It binds 127.0.0.1 and needs no login there, until a first admin is created with --init.
    """
    from blemish.station.backup import restore as put_back
    from blemish.station.serve import Address, check_address, create_admin, serve
    from blemish.station.station import Settings
    from blemish.station.workspace import open_workspace

    if restore is not None:
        put_back(restore, workspace)
    opened = open_workspace(workspace, database)
    if init:
        create_admin(opened, admin, _password())
        console.print(f"{admin} is the admin of {workspace}; now: blemish serve {workspace}", soft_wrap=True)
        return
    address = Address(host, port, certificate, key)
    check_address(opened, address)
    settings = Settings(
        is_loopback=address.is_loopback,
        backend=backend,
        is_secure=behind_https or certificate is not None,
        keep_free=keep_free << 20,
        folders=tuple(folder or ()),
    )
    if demo:
        from blemish.station.demo import demo as make_demo

        make_demo(opened, lambda step: errors.print(f"demo: {step}", soft_wrap=True))
    console.print(f"the station is at {address.url} (Ctrl-C stops it)", soft_wrap=True)
    serve(opened, address, settings)


def _password() -> str:
    """The password of the first admin, typed twice, or from the environment where there is no terminal."""
    if given := os.environ.get(PASSWORD):
        return given
    if not sys.stdin.isatty():
        raise BlemishError(f"init: there is no terminal to type a password. Set {PASSWORD}.")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
