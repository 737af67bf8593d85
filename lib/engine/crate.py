"""Runs as an RO-Crate: one archive that a repository of research data, or another machine, can read.

It follows Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5): every run is an action, its notebook
and card what it was made with, its parameters and data what it was made from, its files and metrics what came
out. Files are those of the store, unchanged, so that the hashes in `status.json` still hold.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.engine.cards import Card, load_card
from lib.engine.provenance import Fingerprints
from lib.engine.store import PROVENANCE, Run, disk_full_is_clear
from lib.errors import WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
LICENCE = "https://spdx.org/licenses/Apache-2.0"


def write_crate(project: Project, runs: Sequence[Run], path: Path) -> Path:
    """The runs, with notebook, card and recorded evidence of their papers, as the archive `path` (.zip).

    The archive appears whole or not at all. Raises WrongUse for no run, one that is no result, a name that
    does not end in .zip and a folder that does not exist; DiskFull when the disk is full.
    """
    if not runs:
        raise WrongUse("there is no finished run to export; `./repro run SLUG` makes one")
    for run in runs:
        if run.state not in ("ok", "incomplete"):
            raise WrongUse(f"{run.id} is {run.state} and no result: {run.reason}")
    if path.suffix != ".zip":
        raise WrongUse(f"{path.name} is to be an archive: let its name end in .zip")
    if not path.parent.is_dir():
        raise WrongUse(f"there is no folder {path.parent} to write {path.name} into")
    crate = _crate(project, runs)
    with disk_full_is_clear(path.parent), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        crate.write_zip(whole)
        os.replace(whole, path)
    return path


def _crate(project: Project, runs: Sequence[Run]) -> "ROCrate":
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    slugs = sorted({run.slug for run in runs})
    cards = {slug: load_card(project.card(slug)) for slug in slugs}
    crate.name = f"Runs of {', '.join(slugs)}"
    crate.description = "; ".join(f"{card.title} ({card.venue})" for card in cards.values())
    crate.license = LICENCE
    crate.root_dataset["conformsTo"] = _entity(crate, PROFILE, "CreativeWork", {"name": "Process Run Crate"})
    papers = {slug: _paper(crate, project, cards[slug]) for slug in slugs}
    actions = [_action(crate, run, *papers[run.slug]) for run in runs]
    crate.root_dataset["mentions"] = actions
    return crate


def _paper(crate: "ROCrate", project: Project, card: Card) -> tuple["Entity", list["Entity"]]:
    """The notebook of a paper, and what its runs read: its card and samples. Evidence goes along."""
    article = _entity(crate, _article(card), "ScholarlyArticle", {"name": card.title})
    notebook = crate.add_file(
        project.notebook(card.slug),
        f"notebooks/{card.slug}.ipynb",
        properties={
            "@type": ["File", "SoftwareSourceCode"],
            "name": f"notebook of {card.title}",
            "programmingLanguage": "Python",
            "encodingFormat": "application/x-ipynb+json",
        },
    )
    claims = crate.add_file(
        project.card(card.slug),
        f"papers/{card.slug}.yaml",
        properties={
            "name": f"claims of {card.title}",
            "about": article,
            "encodingFormat": "application/yaml",
        },
    )
    samples = [
        _entity(crate, f"#sample-{name}", "Dataset", {"name": name, "sha256": digest})
        for name, digest in Fingerprints(project).samples(card).items()
    ]
    for record in sorted((project.evidence / card.slug).glob("*.json")):
        crate.add_file(
            record,
            f"evidence/{card.slug}/{record.name}",
            properties={"name": f"recorded evidence {record.stem}", "about": article},
        )
    return notebook, [claims, *samples]


def _article(card: Card) -> str:
    """Where the paper is: its address, or a name of the crate's own for a card without one."""
    return card.links.get("paper") or next(iter(card.links.values()), f"#paper-{card.slug}")


def _action(crate: "ROCrate", run: Run, notebook: "Entity", read: list["Entity"]) -> "ContextEntity":
    provenance = json.loads((run.path / PROVENANCE).read_text(encoding="utf-8"))
    files = [
        crate.add_file(path, f"runs/{run.slug}/{run.key[:16]}/{path.relative_to(run.path).as_posix()}")
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
    ]
    given = [
        _value(crate, run, "parameter", name, {"value": _text(value)})
        for name, value in run.parameters.items()
        if name != "run_dir"
    ]
    measured = [
        _value(crate, run, "metric", metric.name, {"value": metric.value, "unitText": metric.unit})
        for metric in run.metrics.values()
    ]
    commit = provenance.get("git", {}).get("commit")
    told = {
        "@type": "CreateAction",
        "name": f"{run.slug}, profile {run.profile}, seed {run.seed}",
        "description": f"{run.state}: {run.reason}" if run.reason else run.state,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "endTime": run.finished,
        "startTime": _before(run.finished, run.seconds),
        "softwareVersion": commit or "unknown",
    }
    return crate.add_action(
        notebook,
        f"#run-{run.key[:16]}",
        object=[*read, *given],
        result=[*files, *measured],
        properties=told,
    )


def _value(crate: "ROCrate", run: Run, kind: str, name: str, properties: dict[str, Any]) -> "ContextEntity":
    identifier = f"#{kind}-{run.key[:16]}-{name}"
    return _entity(crate, identifier, "PropertyValue", {"name": name, **properties})


def _entity(crate: "ROCrate", identifier: str, kind: str, properties: dict[str, Any]) -> "ContextEntity":
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _text(value: Any) -> Any:
    """What JSON-LD keeps as it is: a list would lose its order there, so it goes as text."""
    return json.dumps(value) if isinstance(value, list) else value


def _before(finished: str, seconds: float) -> str:
    if not finished:
        return ""
    return (datetime.fromisoformat(finished) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
