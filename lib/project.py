"""Where things are. The working directory never matters: every path hangs from a project's root."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Project:
    """The folders of a project; tests build a miniature one in a temporary folder."""

    root: Path

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def cards(self) -> Path:
        return self.root / "data" / "papers"

    @property
    def samples(self) -> Path:
        return self.root / "data" / "samples"

    @property
    def evidence(self) -> Path:
        return self.root / "data" / "evidence"

    @property
    def runs(self) -> Path:
        return self.root / "data" / "runs"

    @property
    def cache(self) -> Path:
        return self.root / "data" / "cache"

    @property
    def site(self) -> Path:
        return self.root / "site"

    def notebook(self, slug: str) -> Path:
        return self.notebooks / f"{slug}.ipynb"

    def card(self, slug: str) -> Path:
        return self.cards / f"{slug}.yaml"

    def slugs(self) -> list[str]:
        """Slugs of the papers that have a card, sorted."""
        return sorted(path.stem for path in self.cards.glob("*.yaml"))


REPOSITORY = Project(Path(__file__).resolve().parents[1])
