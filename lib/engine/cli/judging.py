"""Verbs that judge: audit, report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lib.engine.cli.choices import (
    AsJson,
    Assignments,
    Jobs,
    MemoryLimit,
    Problems,
    Profile,
    Timeout,
    check_slugs,
    limits,
    parse_assignments,
)
from lib.engine.cli.console import Column, complain, count, say, show_json, show_rows, words
from lib.engine.cli.progress import shown, tell_plan

if TYPE_CHECKING:
    from lib.engine.audit import AuditResult, PaperAudit, RecordedVerdicts
    from lib.engine.batch import Event, OnEvent, PlannedRun
    from lib.engine.verdicts import Verdict
    from lib.project import Project

PANEL = "Verdicts"
COLUMNS = (
    Column("claim", "claim"),
    Column("verdict", "verdict", show=words, whole=True),
    Column("claimed", "paper"),
    Column("measured", "measured"),
    Column("why", "why"),
)


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command("audit", rich_help_panel=PANEL)(audit_papers)
    app.command("report", rich_help_panel=PANEL)(write_report)
    return app


def audit_papers(
    context: typer.Context,
    slugs: Annotated[
        list[str] | None, typer.Argument(metavar="SLUG", help="Papers; all without any.")
    ] = None,
    profile: Profile = "smoke",
    assignments: Assignments = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Run nothing: judge what is there and write the site.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the runs as evidence in data/evidence.")
    ] = False,
    record_as: Annotated[
        str,
        typer.Option(
            "--record-as",
            metavar="NAME",
            help="Keep the runs as evidence of this name, such as small-cifar10; the profile's without it.",
        ),
    ] = "",
    jobs: Jobs = 1,
    timeout: Timeout = None,
    memory: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run what is missing, judge every claim, write the site.

    Smoke runs check that all works and settle what can be counted; they cannot settle orderings and trends
    of measured quantities, which need the seeds of `--profile small`.
    """
    from lib.engine import audit
    from lib.engine.evidence import check_evidence_name
    from lib.engine.parameters import check_profile

    project, problems = context.obj, Problems()
    chosen: list[str] = []
    overrides = parse_assignments(assignments, problems)
    with problems.noted():
        check_profile(profile)
    with problems.noted():
        check_evidence_name(record_as or profile)
    with problems.noted():
        chosen = check_slugs(project, slugs or (), all_if_none=True)
    problems.check()
    with ExitStack() as stack:
        listeners: list[OnEvent] = []

        def tell(planned: "Sequence[PlannedRun]") -> None:
            if not no_run:
                tell_plan(planned)
                listeners.append(stack.enter_context(shown(planned)))

        def listen(event: "Event") -> None:
            listeners[0](event)

        result = audit.audit(
            project,
            chosen,
            profile,
            run_missing=not no_run,
            overrides=overrides,
            record=record_as or (profile if record else ""),
            jobs=jobs,
            limits=limits(jobs, timeout, memory),
            on_plan=tell,
            on_event=listen,
        )
    if as_json:
        papers = [audit.as_json(paper) for paper in result.papers]
        show_json(
            {"profile": profile, "papers": papers, "site": str(result.site), "exit_code": result.exit_code}
        )
    else:
        _show_audit(project, result)
    for paper in result.papers:
        for run in paper.failures:
            complain(f"{run.run} {run.state}: {run.reason}\nits log: {project.root / run.path / 'log.txt'}")
    if result.not_run:
        complain(
            f"{count(len(result.not_run), 'run')} did not take place; the same command goes on with the rest"
        )
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def write_report(
    context: typer.Context,
    readme: Annotated[
        bool, typer.Option("--readme", help="Also renew the table of papers in README.md.")
    ] = False,
) -> None:
    """Write the site from the last verdicts; prints its first page."""
    from lib.engine.report import build_site, update_readme

    print(build_site(context.obj))
    if readme:
        say("README.md renewed" if update_readme(context.obj) else "README.md is up to date")


def _show_audit(project: "Project", result: "AuditResult") -> None:
    from lib.engine.cards import load_card

    for paper in result.papers:
        card = load_card(project.card(paper.slug))
        statements = {claim.id: claim.statement for claim in card.claims}
        rows = [_row(verdict, statements[verdict.claim]) for verdict in paper.verdicts]
        show_rows(
            _told_once(rows),
            COLUMNS,
            title=f"{paper.slug}: {card.title} ({card.venue}), profile {result.profile}",
            roomy=True,
        )
        for recorded in paper.recorded:
            _show_recorded(paper, recorded)
    claims = [verdict for paper in result.papers for verdict in paper.verdicts]
    amount = f"{count(len(result.papers), 'paper')}, {count(len(claims), 'claim')}"
    print(f"{amount}: {tally(claims)}{_whose(claims)}")
    for path in result.evidence_written:
        print(f"evidence: {path}")
    if result.site:
        print(result.site)


def _show_recorded(paper: "PaperAudit", recorded: "RecordedVerdicts") -> None:
    """The verdicts on a file of recorded evidence; claims that it cannot settle are only counted."""
    settled = [verdict for verdict in recorded.verdicts if verdict.state != "not_assessed"]
    commit = f", commit {recorded.commit[:10]}" if recorded.commit else ""
    where = f"{recorded.profile}, {recorded.recorded[:10]}{commit}"
    show_rows(
        [_row(verdict) for verdict in settled],
        COLUMNS,
        title=f"{paper.slug}, recorded earlier in {recorded.file} ({where}): {tally(recorded.verdicts)}",
    )


def _row(verdict: "Verdict", statement: str = "") -> dict[str, Any]:
    from rich.text import Text

    return {
        "claim": Text(verdict.claim, style="bold").append(f" {statement}", style="not bold"),
        "verdict": verdict.state,
        "paper": verdict.paper,
        "measured": verdict.measured,
        "why": f"{verdict.reason} {verdict.command}".strip(),
    }


def _told_once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, in which the reason of a claim that is not assessed is not repeated under the same reason."""
    told = list(rows[:1])
    for above, row in pairwise(rows):
        same = row["verdict"] == "not_assessed" and all(row[key] == above[key] for key in ("verdict", "why"))
        told.append({**row, "why": "as above"} if same else row)
    return told


def _whose(verdicts: "Sequence[Verdict]") -> str:
    """The papers' own claims apart from checks of ours, in brackets; empty when all are the papers' own."""
    own = [verdict for verdict in verdicts if not verdict.derived]
    ours = len(verdicts) - len(own)
    if not ours:
        return ""
    others = f"the other {ours} are checks" if ours > 1 else "the other is a check"
    return f" (of the paper's own {len(own)}: {tally(own) or 'none'}; {others} of ours)"


def tally(verdicts: "Iterable[Verdict]") -> str:
    """How many verdicts of each kind there are: "3 reproduced, 1 not assessed"."""
    from lib.engine.verdicts import State

    amounts = Counter(verdict.state for verdict in verdicts)
    return ", ".join(f"{amounts[state]} {words(state)}" for state in State if amounts[state])
