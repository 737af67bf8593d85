"""Builds ``site/``: every page is written elsewhere first, then the folders change places."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.engine.audit import JudgedRun, PaperAudit, as_json, command_for, read_audit
from lib.engine.cards import Card, load_cards
from lib.engine.claims import PROFILES, Claim
from lib.engine.report.notebook import code_css, notebook_html
from lib.engine.store import NOTEBOOK, remove_tree
from lib.engine.verdicts import State, Verdict
from lib.project import Project

if TYPE_CHECKING:
    from jinja2 import Environment

MARKS = {
    State.REPRODUCED: ("✓", "reproduced"),
    State.NOT_REPRODUCED: ("✗", "not reproduced"),
    State.INCONCLUSIVE: ("≈", "inconclusive"),
    State.NOT_ASSESSED: ("○", "not assessed"),
    State.ERROR: ("!", "error"),
}
"""Sign and words of each state: colour is never the only difference."""

FAMILIES = {
    "vit": "Vision transformers",
    "cnn": "Convolutional networks",
    "finegrained": "Fine-grained recognition",
    "rnn": "Recurrent networks",
    "quantum": "Quantum circuits",
    "hardware": "Hardware",
}
_TEMPLATES = Path(__file__).parent / "templates"
_DRAFT = ".site-draft-"


@dataclass(frozen=True)
class Row:
    """A claim beside its verdict."""

    claim: Claim
    verdict: Verdict


@dataclass(frozen=True)
class Paper:
    """What the templates know of one paper; `audit` is None before its first audit."""

    card: Card
    audit: PaperAudit | None
    commands: Mapping[str, str]
    """Profile -> the command that audits the paper with it."""

    @property
    def rows(self) -> list[Row]:
        """The claims with the verdicts of the last audit (a claim added since has none)."""
        return _rows(self.card, self.audit.verdicts) if self.audit else []

    @property
    def counts(self) -> Counter[State]:
        """How many claims are in which state."""
        return Counter(row.verdict.state for row in self.rows)

    @property
    def ours(self) -> list[Row]:
        """The rows that are checks of ours, not the paper's own claims."""
        return [row for row in self.rows if row.claim.derived]

    @property
    def own_counts(self) -> Counter[State]:
        """How many of the paper's own claims are in which state."""
        return Counter(row.verdict.state for row in self.rows if not row.claim.derived)

    @property
    def recorded(self) -> list[dict[str, Any]]:
        """Files of recorded evidence: about each, and the claims that it settles."""
        found = []
        for item in self.audit.recorded if self.audit else ():
            rows = _rows(self.card, item.verdicts)
            settled = [row for row in rows if row.verdict.state is not State.NOT_ASSESSED]
            found.append(
                {"about": item, "machine": machine_text(item.machine), "rows": settled, "all": len(rows)}
            )
        return found


def build_site(project: Project) -> Path:
    """Renews the site from the cards and the last audits and returns its front page.

    The old site stays whole until the new one is; two builders take turns.
    """
    from filelock import FileLock

    papers = [
        Paper(
            card,
            read_audit(project, card.slug),
            {profile: command_for(project, card, profile) for profile in PROFILES},
        )
        for card in load_cards(project).values()
    ]
    project.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(project.cache / "site.lock"):
        _remove_drafts(project)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=project.root))
        draft.chmod(0o755)
        try:
            _write_pages(project, papers, draft)
            if project.site.exists():
                project.site.rename(project.root / f"{_DRAFT}old")
            draft.rename(project.site)
        finally:
            _remove_drafts(project)
    return project.site / "index.html"


def machine_text(machine: Mapping[str, Any]) -> str:
    """A machine in one line: processor, CPUs, memory, accelerators."""
    memory = machine.get("memory_bytes")
    parts = [
        str(machine.get("processor") or machine.get("architecture") or ""),
        f"{machine['logical_cpus']} CPUs" if machine.get("logical_cpus") else "",
        f"{memory / 1e9:.0f} GB" if memory else "",
        *machine.get("accelerators", []),
    ]
    return ", ".join(part for part in parts if part) or "unknown machine"


def _remove_drafts(project: Project) -> None:
    for draft in project.root.glob(f"{_DRAFT}*"):
        remove_tree(draft)


def _write_pages(project: Project, papers: list[Paper], folder: Path) -> None:
    environment = _environment()
    for name in ("papers", "notebooks", "figures", "verdicts"):
        (folder / name).mkdir()
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    (folder / "style.css").write_text(style + code_css(), encoding="utf-8")
    for paper in papers:
        slug = paper.card.slug
        run = _shown_run(project, paper.audit)
        notebook = notebook_html(project.root / run.path / NOTEBOOK) if run else None
        figures = _copy_figures(project, run, folder / "figures" / slug) if run else []
        context = {"paper": paper, "run": run, "figures": figures, "has_notebook": notebook is not None}
        _render(environment, "paper.html.j2", folder / "papers" / f"{slug}.html", **context)
        if notebook is not None:
            page = folder / "notebooks" / f"{slug}.html"
            _render(environment, "notebook.html.j2", page, paper=paper, run=run, fragment=notebook)
        if paper.audit:
            text = json.dumps(as_json(paper.audit), indent=1, ensure_ascii=False)
            (folder / "verdicts" / f"{slug}.json").write_text(text + "\n", encoding="utf-8")
    _render(environment, "index.html.j2", folder / "index.html", papers=papers)


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        marks=MARKS,
        states=list(State),
        families=FAMILIES,
        profiles=PROFILES,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    environment.filters.update(moment=_moment, duration=_duration)
    return environment


def _render(environment: "Environment", template: str, path: Path, **context: Any) -> None:
    depth = "" if path.name == "index.html" else "../"
    path.write_text(environment.get_template(template).render(root=depth, **context), encoding="utf-8")


def _rows(card: Card, verdicts: Iterable[Verdict]) -> list[Row]:
    by_claim = {verdict.claim: verdict for verdict in verdicts}
    return [Row(claim, by_claim[claim.id]) for claim in card.claims if claim.id in by_claim]


def _shown_run(project: Project, audit: PaperAudit | None) -> JudgedRun | None:
    """The run whose notebook and figures are shown: a good one of the largest profile that was judged."""
    runs = [run for run in audit.runs if (project.root / run.path).is_dir()] if audit else []
    rank = {"ok": 2, "incomplete": 1}
    return max(
        runs, key=lambda run: (rank.get(run.state, 0), PROFILES.index(run.profile), -run.seed), default=None
    )


def _copy_figures(project: Project, run: JudgedRun, folder: Path) -> list[str]:
    """Copies the run's figures; returns their names without the ending."""
    figures = sorted((project.root / run.path).glob("*.png"))
    if figures:
        folder.mkdir()
    for figure in figures:
        shutil.copyfile(figure, folder / figure.name)
    return [figure.stem for figure in figures]


def _moment(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
