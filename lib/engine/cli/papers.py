"""Verbs that show what there is: list, params."""

from typing import TYPE_CHECKING, Any

import typer

from lib.engine.cli.choices import AsJson, Slug, check_slugs
from lib.engine.cli.console import Column, count, say, show_json, show_rows
from lib.engine.cli.judging import tally

if TYPE_CHECKING:
    from lib.engine.cards import Card

PANEL = "Papers"


def build() -> typer.Typer:
    """The verbs of this group."""
    app = typer.Typer()
    app.command("list", rich_help_panel=PANEL)(list_papers)
    app.command("params", rich_help_panel=PANEL)(show_parameters)
    return app


def list_papers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the papers with their claims and last verdicts."""
    from lib.engine.audit import read_audit
    from lib.engine.cards import load_cards

    project = context.obj
    rows = []
    for card in load_cards(project).values():
        last = read_audit(project, card.slug)
        verdicts = last.verdicts if last else ()
        rows.append(
            {
                "slug": card.slug,
                "title": card.title,
                "venue": card.venue,
                "year": card.year,
                "family": card.family,
                "notebook": str(project.notebook(card.slug).relative_to(project.root)),
                "claims": len(card.claims),
                "verdicts": {verdict.claim: verdict.state for verdict in verdicts},
                "profile": last.profile if last else None,
                "summary": f"{tally(verdicts)} ({last.profile} profile)" if last else "not audited yet",
            }
        )
    if as_json:
        show_json(rows)
        return
    if not rows:
        say(f"no paper has a card yet in {project.cards}; `./repro new SLUG` begins one")
        return
    show_rows(
        rows,
        [
            Column("paper", "slug", whole=True, style="bold"),
            Column("title", "title"),
            Column("venue", "venue", whole=True),
            Column("claims", "claims", right=True),
            Column("last verdicts", "summary"),
        ],
    )


def show_parameters(context: typer.Context, slug: Slug, as_json: AsJson = False) -> None:
    """Show the parameters of a notebook and its profiles."""
    from lib.engine.cards import load_card
    from lib.engine.parameters import PROFILES, read_parameters

    project = context.obj
    check_slugs(project, [slug])
    card = load_card(project.card(slug))
    rows = [
        {
            "name": parameter.name,
            "type": parameter.type,
            "default": parameter.default,
            "allowed": _allowed(card, parameter.name),
            "help": parameter.help,
            **{profile: card.profiles[profile].parameters.get(parameter.name) for profile in PROFILES},
        }
        for parameter in read_parameters(project.notebook(slug))
    ]
    if as_json:
        show_json(rows)
        return
    show_rows(
        rows,
        [
            Column("parameter", "name", whole=True, style="bold"),
            Column("type", "type", whole=True),
            Column("default", "default"),
            Column("allowed", "allowed"),
            *(Column(profile, profile) for profile in PROFILES),
            Column("what it is", "help"),
        ],
        title=f"{slug}: {card.title}",
    )
    for name in PROFILES:
        profile = card.profiles[name]
        needs = f"; needs {profile.requires}" if profile.requires else ""
        say(f"{name}: about {profile.minutes:g} min a run, {count(len(profile.seeds), 'seed')}{needs}")


def _allowed(card: "Card", name: str) -> str:
    declared: Any = card.parameters.get(name)
    if declared is None:
        return ""
    if declared.choices is not None:
        return ", ".join(map(str, declared.choices))
    low = "" if declared.minimum is None else f"{declared.minimum:g}"
    high = "" if declared.maximum is None else f"{declared.maximum:g}"
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
