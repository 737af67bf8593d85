"""Where things are. The working directory never matters: every path hangs from a project's root."""

from dataclasses import dataclass
from pathlib import Path

from lib.errors import WrongUse


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


def user_folder(data_root: str) -> Path:
    """The folder that a user names, ``~`` expanded. Raises WrongUse for a home that does not exist."""
    try:
        return Path(data_root).expanduser()
    except RuntimeError as error:
        raise WrongUse(
            f"data_root={data_root}: there is no such home; write the folder from the root"
        ) from error


REPOSITORY = Project(Path(__file__).resolve().parents[1])
