"""Verbs about data sets: data list, data get, data check."""

from typing import Annotated

import typer

from lib.engine.cli.choices import AsJson
from lib.engine.cli.console import Column, count, messages, say, show_json, show_rows, words

PANEL = "This machine"


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    data = typer.Typer(no_args_is_help=True, help="List, fetch and check the data sets.")
    data.command("list")(list_data)
    data.command("get")(get_data)
    data.command("check")(check_data)
    app.add_typer(data, name="data", rich_help_panel=PANEL)
    return app


def list_data(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets: which can be used now, and how to get the others."""
    from lib.catalogue import status

    rows = [entry.model_dump() for entry in status(context.obj)]
    if as_json:
        show_json(rows)
        return
    show_rows(
        rows,
        [
            Column("data set", "name", whole=True, style="bold"),
            Column("tier", "tier", whole=True),
            Column("state", "state", whole=True, show=words),
            Column("what it is", "title"),
            Column("licence", "licence"),
        ],
    )
    for row in rows:
        if row["state"] != "ready":
            say(f"{row['name']}: {row['detail']}")


def get_data(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set, as in `data list`.")],
) -> None:
    """Download a public data set from its official place and check its hash; prints the file."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from lib.downloads import download

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), transient=True) as progress:
        task = progress.add_task(name, total=None)
        path = download(
            name,
            context.obj,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(path)


def check_data(context: typer.Context, as_json: AsJson = False) -> None:
    """Check every committed sample against the hash in its manifest."""
    from lib.samples import check_samples

    checks = check_samples(context.obj)
    rows = [check.model_dump() for check in checks]
    if as_json:
        show_json(rows)
    else:
        show_rows(
            rows,
            [
                Column("sample", "name", whole=True, style="bold"),
                Column("state", "state", whole=True, show=words),
                Column("file", "path"),
                Column("what to do", "detail"),
            ],
        )
    bad = sum(check.state != "ok" for check in checks)
    if bad:
        say(f"{count(bad, 'sample')} of {len(checks)} not as the manifest says", "red")
        raise typer.Exit(1)
