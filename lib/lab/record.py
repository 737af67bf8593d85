"""The one door from a notebook to the engine: record a quantity, save a figure, show claims and verdicts.

A reader who opens the notebook passes ``run_dir=""`` and nothing is written; the runner passes its folder.
"""

import html
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.engine.child import PROJECT_VARIABLE
from lib.errors import ReproError
from lib.project import REPOSITORY, Project

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lib.engine.cards import Card

FIGURE_DPI = 120
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Table:
    """A small table that Jupyter shows as HTML and a terminal as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def _repr_html_(self) -> str:
        def line(tag: str, cells: tuple[str, ...]) -> str:
            style = "text-align:left;vertical-align:top"
            return "".join(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in cells)

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{line('th', self.header)}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        return "\n".join(" | ".join(row) for row in (self.header, *self.rows))


class OpenRun:
    """What one execution of a notebook has recorded so far. Made by `open_run`."""

    def __init__(self, slug: str, run_dir: str, seed: int, profile: str, project: Project) -> None:
        self.slug = slug
        self.seed = seed
        self.profile = profile
        self._project = project
        self._folder = Path(run_dir) if run_dir else None
        self._metrics: dict[str, dict[str, Any]] = {}
        self._figures: set[str] = set()
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write()

    def record(self, name: str, value: float | bool, unit: str = "") -> None:
        """Record a claimed quantity: a finite number or a bool (numpy scalars and 0-d tensors count).

        Raises ReproError for a name used twice, and for a value that is not finite or not a number.
        """
        _check_name(name, "metric")
        if name in self._metrics:
            raise ReproError(
                f"metric {name!r} was already recorded in this run; give the second one its own name"
            )
        self._metrics[name] = {"value": _plain_number(name, value), "unit": unit, "seed": self.seed}
        if self._folder:
            self._write()

    def figure(self, fig: "Figure", name: str) -> None:
        """Save `fig` as `name`.png among the results of the run; showing it is the notebook's business."""
        _check_name(name, "figure")
        if name in self._figures:
            raise ReproError(
                f"figure {name!r} was already saved in this run; give the second one its own name"
            )
        self._figures.add(name)
        if self._folder:
            fig.savefig(self._folder / f"{name}.png", dpi=FIGURE_DPI, bbox_inches="tight")

    def claims(self) -> Table:
        """The claims of the paper, from its card."""
        return _claims_table(self._card())

    def verdicts(self) -> Table:
        """Every claim of the card judged on what this run alone has recorded."""
        from lib.engine.verdicts import Observations, judge

        observations = Observations(
            profile=self.profile,
            origin="run",
            values={name: {self.seed: float(metric["value"])} for name, metric in self._metrics.items()},
            units={name: metric["unit"] for name, metric in self._metrics.items()},
        )
        rows = []
        for claim in self._card().claims:
            verdict = judge(claim, observations, self.slug)
            reason = f"{verdict.reason} {verdict.command}" if verdict.command else verdict.reason
            state = str(verdict.state).replace("_", " ")
            rows.append((claim.id, claim.statement, state, verdict.measured, verdict.paper, reason))
        return Table(("claim", "the paper says", "verdict", "measured", "claimed", "why"), tuple(rows))

    def _card(self) -> "Card":
        from lib.engine.cards import load_card

        return load_card(self._project.card(self.slug))

    def _write(self) -> None:
        """Replace metrics.json in one step, so that a kill never leaves half of it."""
        assert self._folder is not None
        draft = self._folder / ".metrics.json"
        draft.write_text(json.dumps(self._metrics, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(draft, self._folder / "metrics.json")


def open_run(slug: str, run_dir: str, seed: int, profile: str) -> OpenRun:
    """The record of this execution of the notebook `slug`; with `run_dir` "" nothing is written to disk."""
    root = os.environ.get(PROJECT_VARIABLE)
    return OpenRun(slug, run_dir, seed, profile, Project(Path(root)) if root else REPOSITORY)


def claims_of(slug: str) -> Table:
    """The claims of the paper `slug`, from its card; for the top of a notebook, before anything runs."""
    return open_run(slug, run_dir="", seed=0, profile="smoke").claims()


def _claims_table(card: "Card") -> Table:
    rows = tuple(
        (
            claim.id,
            claim.statement,
            claim.where,
            claim.kind,
            claim.evidence,
            f"{claim.needs.profile}, {claim.needs.seeds} seed{'s' if claim.needs.seeds > 1 else ''}"
            if claim.can_settle
            else "nothing here",
        )
        for claim in card.claims
    )
    return Table(("claim", "the paper says", "where", "kind", "evidence", "settled by"), rows)


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise ReproError(
            f"{what} name {name!r}: use letters, digits, '_', '.' and '-', beginning with a letter or digit"
        )


def _plain_number(name: str, value: Any) -> float | int | bool:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise ReproError(f"metric {name!r} is a {type(value).__name__}; record a number or a bool")
    if not math.isfinite(value):
        raise ReproError(f"metric {name!r} is {value}; only finite numbers can be judged")
    return value
