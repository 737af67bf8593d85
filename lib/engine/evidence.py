"""Recorded evidence: what good runs measured, committed as ``data/evidence/<slug>/<name>.json``.

A file keeps the runs of one profile with the commit, the machine and the time, so that results of a machine
that the reader does not have can be judged again, apart from what was just run.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib.engine.claims import ProfileName
from lib.engine.parameters import DATA_ROOT
from lib.engine.store import PROVENANCE, Run, write_json
from lib.engine.verdicts import Observations
from lib.errors import ReproError, WrongUse
from lib.project import Project

_SHARED = ("machine", "packages", "git", "python")
"""Entries of a run's provenance that are kept once a file."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecordedMetric(_Strict):
    """One quantity of one run."""

    name: str
    value: bool | Annotated[float, Field(allow_inf_nan=False)]
    unit: str = ""


class RecordedRun(_Strict):
    """One run: its seed, parameters, metrics and what is known of how it was made."""

    seed: int
    parameters: dict[str, Any]
    metrics: list[RecordedMetric]
    provenance: dict[str, Any]


class Evidence(_Strict):
    """One file: runs of one profile on one machine. `recorded` is an ISO 8601 time."""

    slug: str
    profile: ProfileName
    commit: str | None
    recorded: str
    machine: dict[str, Any]
    software: dict[str, Any] = Field(default_factory=dict)
    runs: Annotated[list[RecordedRun], Field(min_length=1)]

    @property
    def observations(self) -> Observations:
        """What the runs measured, ready to be judged."""
        values: dict[str, dict[int, float]] = {}
        units: dict[str, str] = {}
        for run in self.runs:
            for metric in run.metrics:
                values.setdefault(metric.name, {})[run.seed] = float(metric.value)
                units[metric.name] = metric.unit
        return Observations(self.profile, "recorded", values, units)


def read_evidence(project: Project, slug: str) -> dict[str, Evidence]:
    """File name -> evidence of the paper `slug`, sorted. Raises WrongUse naming the file and field."""
    return {path.name: _read(path, slug) for path in sorted((project.evidence / slug).glob("*.json"))}


def check_evidence_name(name: str) -> None:
    """Raises WrongUse unless `name` can be that of a file of evidence."""
    if not _NAME.fullmatch(name):
        raise WrongUse(f"evidence cannot be called {name!r}: use small letters, digits, '-' and '_'")


def record_evidence(project: Project, slug: str, profile: str, runs: Iterable[Run | None], name: str) -> Path:
    """Writes the good runs of `profile` as ``<name>.json``, replacing an older one, and returns the file.

    Where data lay on the machine is not kept: their hash is. Raises ReproError when there is nothing good to
    record, WrongUse for a bad name.
    """
    import json

    check_evidence_name(name)
    good = [run for run in runs if run is not None and run.state in ("ok", "incomplete")]
    if not good:
        remedy = f"`./repro audit {slug} --profile {profile}` makes one"
        raise ReproError(f"{slug}: there is no finished run of profile {profile} to record; {remedy}")
    provenances = [json.loads((run.path / PROVENANCE).read_text(encoding="utf-8")) for run in good]
    last = provenances[-1]
    entry = {
        "slug": slug,
        "profile": profile,
        "commit": last.get("git", {}).get("commit"),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": last.get("machine", {}),
        "software": {name: last[name] for name in ("python", "packages", "git") if name in last},
        "runs": [
            {
                "seed": run.seed,
                "parameters": _without_folder(run.parameters),
                "metrics": [
                    {"name": metric.name, "value": metric.value, "unit": metric.unit}
                    for metric in run.metrics.values()
                ],
                "provenance": {
                    name: value
                    for name, value in provenance.items()
                    if name not in (*_SHARED, "parameters", "seed", "slug", "profile")
                },
            }
            for run, provenance in zip(good, provenances, strict=True)
        ],
    }
    path = project.evidence / slug / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, Evidence.model_validate(entry).model_dump())
    return path


def _without_folder(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` with a word in place of the user's folder of data, if there is one."""
    folder = {DATA_ROOT: "FOLDER"} if parameters.get(DATA_ROOT) else {}
    return {**parameters, **folder}


def _read(path: Path, slug: str) -> Evidence:
    shown = "/".join(path.parts[-4:])
    try:
        evidence = Evidence.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WrongUse(f"{shown}: {field or 'file'}: {first['msg']}") from None
    if evidence.slug != slug:
        raise WrongUse(f"{shown}: slug: is {evidence.slug!r} but lies in the folder of {slug!r}")
    return evidence
