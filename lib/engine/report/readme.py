"""The table of papers and verdicts in README.md, between two markers."""

import re
from collections import Counter

from lib.engine.audit import last_verdicts
from lib.engine.cards import load_cards
from lib.engine.verdicts import State, Verdict
from lib.errors import ReproError
from lib.project import Project

BEGIN, END = "<!-- verdicts:begin -->", "<!-- verdicts:end -->"


def readme_table(project: Project) -> str:
    """A Markdown table: one row a paper, with its own claims in each state at its last audit.

    Checks of ours, whose figures we derived, stand apart in the last column.
    """
    states = [state.replace("_", " ") for state in State]
    lines = [
        f"| paper | venue | notebook | claims | {' | '.join(states)} | our own checks |",
        f"| --- | --- | --- | ---: | {' | '.join('---:' for _ in states)} | ---: |",
    ]
    for card in load_cards(project).values():
        verdicts = last_verdicts(project, card.slug)
        counts = Counter(verdict.state for verdict in verdicts if not verdict.derived)
        numbers = [str(counts[state] or "·") if verdicts else "" for state in State]
        if not verdicts:
            numbers[0] = "not audited yet"
        notebook = f"[{card.slug}](notebooks/{card.slug}.ipynb)"
        own = sum(not claim.derived for claim in card.claims)
        cells = [f"[{_escape(card.title)}]({_link(card.links)})", _escape(card.venue), notebook]
        lines.append(
            f"| {' | '.join([*cells, str(own), *numbers, _checks(len(card.claims) - own, verdicts)])} |"
        )
    return "\n".join(lines)


def update_readme(project: Project) -> bool:
    """Puts `readme_table` between the markers of README.md; returns whether that changed the file.

    Raises ReproError when README.md or its markers are not there.
    """
    path = project.root / "README.md"
    if not path.exists():
        raise ReproError(f"there is no {path}")
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ReproError(f"README.md: put one pair of lines {BEGIN} and {END} where the table belongs")
    table = readme_table(project)
    renewed = pattern.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text)
    if renewed == text:
        return False
    draft = path.with_name(".README.md.draft")
    draft.write_text(renewed, encoding="utf-8")
    draft.replace(path)
    return True


def _checks(amount: int, verdicts: list[Verdict]) -> str:
    if not amount:
        return "·"
    held = sum(verdict.derived and verdict.state is State.REPRODUCED for verdict in verdicts)
    return f"{held} of {amount} hold" if verdicts else str(amount)


def _link(links: dict[str, str]) -> str:
    return links.get("paper") or next(iter(links.values()), "")


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
