"""The table of papers and verdicts in README.md, between two markers."""

import re
from collections import Counter

from lib.engine.audit import last_verdicts
from lib.engine.cards import load_cards
from lib.engine.verdicts import State
from lib.errors import ReproError
from lib.project import Project

BEGIN, END = "<!-- verdicts:begin -->", "<!-- verdicts:end -->"


def readme_table(project: Project) -> str:
    """A Markdown table: one row a paper, with the number of claims in each state at its last audit."""
    states = [state.replace("_", " ") for state in State]
    lines = [
        f"| paper | venue | notebook | claims | {' | '.join(states)} |",
        f"| --- | --- | --- | ---: | {' | '.join('---:' for _ in states)} |",
    ]
    for card in load_cards(project).values():
        counts = Counter(verdict.state for verdict in last_verdicts(project, card.slug))
        numbers = [str(counts[state] or "·") if counts else "" for state in State]
        if not counts:
            numbers[0] = "not audited yet"
        notebook = f"[{card.slug}](notebooks/{card.slug}.ipynb)"
        cells = [f"[{_escape(card.title)}]({_link(card.links)})", _escape(card.venue), notebook]
        lines.append(f"| {' | '.join([*cells, str(len(card.claims)), *numbers])} |")
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


def _link(links: dict[str, str]) -> str:
    return links.get("paper") or next(iter(links.values()), "")


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
