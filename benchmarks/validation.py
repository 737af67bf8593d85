"""Errors of the hardware models against published points, simulators and a measured machine.

Fits are made anew, with one point or one network left out at a time; what simulators and the measured machine
gave is read from hw_models/reference/. `--write` renews the table that opens hw_models/README.md.
"""

from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from hw_models.validate import markdown, validate
from lib.hardware.networks import networks
from lib.project import REPOSITORY

README = REPOSITORY.root / "hw_models" / "README.md"
BEGIN, END = "<!-- validation:begin -->", "<!-- validation:end -->"


def main(
    write: Annotated[bool, typer.Option(help="renew the table of hw_models/README.md")] = False,
    points: Annotated[bool, typer.Option(help="print every point as well")] = False,
) -> None:
    """Print the validation table; half a minute."""
    console = Console()
    with console.status("predicting"):
        found = validate(networks())
    table = markdown(found)
    console.print(Markdown(table))
    if points:
        for validation in found:
            console.print(f"\n{validation.what}, {validation.device}", style="bold")
            for point in validation.points:
                console.print(
                    f"  {point.name}: {point.predicted:,.4g} against {point.published:,.4g} {point.unit} "
                    f"({point.error:+.1%}, {point.confidence})"
                )
    if write:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
        console.print(f"written to {README}")


if __name__ == "__main__":
    typer.run(main)
