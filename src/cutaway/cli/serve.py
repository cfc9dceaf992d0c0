"""How do I look at all this in a browser? `cutaway serve` starts the workbench and opens it."""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.core import registry


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; beyond this machine it needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = 0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Open it at the start; may be repeated. A name or a folder."
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="PLACE", help="Folder or database URL where results are kept.")
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            "--token", metavar="TEXT", envvar="CUTAWAY_TOKEN", help="What visitors must know.", show_envvar=True
        ),
    ] = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Start the workbench: every method, result and model in the browser.

    [dim]On this machine:[/] cutaway serve

    [dim]For others:[/] cutaway serve --host 0.0.0.0 --port 8321 --token "$(openssl rand -hex 16)"
    """
    from cutaway.models.weights import find
    from cutaway.web.server import run  # FastAPI, SQLAlchemy
    from cutaway.web.settings import Settings

    named = tuple(dict.fromkeys(model or ()))
    for name in named:
        find(name)  # a slip is said now, not when a page asks
    settings = Settings(
        host=host, port=port, token=token, store=store, models=named, plugins=tuple(registry.loose_files())
    )

    def announce(url: str) -> None:
        typer.echo(url)
        typer.echo("Press ctrl-C to stop.", err=True)
        if not no_browser:
            _open(url)

    run(settings, announce)


def _open(url: str) -> None:
    """Open a browser without waiting for it."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
