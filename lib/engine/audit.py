"""The audit: run what is missing, judge every claim of every paper, keep the verdicts.

The verdicts of a paper are kept as ``data/runs/verdicts/<slug>.json``, an object with

- ``format`` (1), ``slug``, ``profile``, ``audited`` (ISO 8601 time),
- ``verdicts``: one object a claim, in the card's order, with ``claim``, ``state``, ``reason``, ``command``,
  ``measured``, ``paper``, ``profile``, ``origin``, ``seeds``, ``interval`` (null, or ``estimate``,
  ``low``, ``high``) and ``derived`` (true for a check of ours, which is not the paper's own claim),
- ``recorded``: one object a file of recorded evidence, with ``file``, ``profile``, ``commit``, ``recorded``,
  ``machine`` and its own ``verdicts``,
- ``runs``: one object a run that was judged or failed, with ``run``, ``path`` (relative to the project),
  ``state``, ``reason``, ``profile``, ``seed`` and ``seconds``.

A field is only ever added; ``format`` rises if one changes its meaning.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.engine.cards import Card, load_card
from lib.engine.claims import PROFILES, Claim, profile_rank
from lib.engine.evidence import Evidence, read_evidence, record_evidence
from lib.engine.parameters import DATA_ROOT, check_slug, nearest, read_parameters, wants_data_root
from lib.engine.statistics import Interval
from lib.engine.store import Run, Store, write_json
from lib.engine.verdicts import Observations, State, Verdict, judge, judge_without_runs
from lib.errors import WrongUse
from lib.project import Project

if TYPE_CHECKING:
    from lib.engine.batch import OnEvent, PlannedRun
    from lib.engine.runner import Limits

FORMAT = 1
_SETTLED = (State.REPRODUCED, State.NOT_REPRODUCED, State.INCONCLUSIVE)


@dataclass(frozen=True)
class RecordedVerdicts:
    """The verdicts on one file of recorded evidence."""

    file: str
    profile: str
    commit: str | None
    recorded: str
    machine: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class JudgedRun:
    """A run that an audit looked at; `path` is relative to the project."""

    run: str
    path: str
    state: str
    reason: str
    profile: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class PaperAudit:
    """The answer for one paper: a verdict for every claim, and what it rests on."""

    slug: str
    profile: str
    audited: str
    verdicts: tuple[Verdict, ...]
    recorded: tuple[RecordedVerdicts, ...]
    runs: tuple[JudgedRun, ...]

    @property
    def failures(self) -> tuple[JudgedRun, ...]:
        """The runs of the audited profile that did not end well."""
        return tuple(run for run in self.runs if run.state != "ok" and run.profile == self.profile)


@dataclass(frozen=True)
class AuditResult:
    """What one audit found. `not_run` are planned runs that were refused or not begun."""

    profile: str
    papers: tuple[PaperAudit, ...]
    planned: tuple["PlannedRun", ...]
    not_run: tuple["PlannedRun", ...] = ()
    evidence_written: tuple[Path, ...] = ()
    site: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 when every claim has an honest verdict; 1 for any error, failed or missing run."""
        errors = any(verdict.state is State.ERROR for paper in self.papers for verdict in paper.verdicts)
        failures = any(paper.failures for paper in self.papers)
        return int(errors or failures or bool(self.not_run))


def audit(
    project: Project,
    slugs: Sequence[str],
    profile: str = "smoke",
    run_missing: bool = True,
    *,
    overrides: Mapping[str, str] | None = None,
    record: str = "",
    write_site: bool = True,
    jobs: int = 1,
    limits: "Limits | None" = None,
    on_plan: "Callable[[Sequence[PlannedRun]], None] | None" = None,
    on_event: "OnEvent | None" = None,
) -> AuditResult:
    """Runs what is missing of `profile`, judges every claim of `slugs` (none: all), keeps the verdicts.

    A claim that `profile` cannot settle is judged on current runs of another profile that the store has.
    `overrides` are parameters, by name, for the papers whose notebook has them; a folder of data goes only
    to profiles that read one. `on_plan` gets the plan, with the reason of each run, before anything starts.
    `record` names the evidence that the runs of `profile` are kept as, `write_site` renews the pages under
    ``site/``. Raises WrongUse before anything starts, and what `run_all` raises.
    """
    from lib.engine.batch import run_all
    from lib.engine.report import build_site

    slugs = list(slugs) or project.slugs()
    if not slugs:
        raise WrongUse(f"there is no paper in {project.cards}; make one with `./repro new SLUG`")
    profile_rank(profile)
    cards = {slug: load_card(project.card(slug)) for slug in dict.fromkeys(slugs)}
    overrides = overrides or {}
    planned = _plan(project, cards, profile, overrides, only_look=not run_missing)
    others = []
    for name in (name for name in PROFILES if name != profile):
        others += _plan(project, cards, name, overrides, only_look=True)
    for slug in cards:
        read_evidence(project, slug)
    if on_plan:
        on_plan(planned)
    if run_missing:
        run_all(project, planned, jobs, limits, on_event)
    store = Store(project)
    papers, written = [], []
    for slug, card in cards.items():
        found = _found(store, [plan for plan in [*planned, *others] if plan.slug == slug])
        if record:
            written.append(record_evidence(project, slug, profile, found[profile].values(), record))
        paper = _judge_paper(project, card, profile, found, read_evidence(project, slug), run_missing)
        _keep(project, paper)
        papers.append(paper)
    not_run = [plan for plan in planned if run_missing and store.get(plan.slug, plan.key) is None]
    return AuditResult(
        profile=profile,
        papers=tuple(papers),
        planned=tuple(planned),
        not_run=tuple(not_run),
        evidence_written=tuple(written),
        site=build_site(project) if write_site else None,
    )


def command_for(project: Project, card: Card, profile: str) -> str:
    """The command that audits the paper with `profile`, with the parameter that this needs, if any."""
    folder = f" -p {DATA_ROOT}=FOLDER" if wants_data_root(project, card, profile) else ""
    return f"./repro audit {card.slug} --profile {profile}{folder}"


def read_audit(project: Project, slug: str) -> PaperAudit | None:
    """The last audit of a paper; None if there is none, or none that this version can read."""
    try:
        entry = json.loads(_kept(project, slug).read_text(encoding="utf-8"))
        if entry["format"] != FORMAT:
            return None
        return PaperAudit(
            slug=entry["slug"],
            profile=entry["profile"],
            audited=entry["audited"],
            verdicts=tuple(_verdict(item) for item in entry["verdicts"]),
            recorded=tuple(
                RecordedVerdicts(**{**item, "verdicts": tuple(_verdict(one) for one in item["verdicts"])})
                for item in entry["recorded"]
            ),
            runs=tuple(JudgedRun(**item) for item in entry["runs"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def last_verdicts(project: Project, slug: str) -> list[Verdict]:
    """The verdicts of the last audit of a paper, in the card's order; empty before the first."""
    last = read_audit(project, slug)
    return list(last.verdicts) if last else []


def as_json(paper: PaperAudit) -> dict[str, Any]:
    """The object described at the top of this module."""
    return {"format": FORMAT, **asdict(paper)}


def observe(profile: str, runs: Mapping[int, Run | None]) -> Observations:
    """What `runs` (seed -> run, None where it never came to be) recorded, and in words which failed."""
    values: dict[str, dict[int, float]] = {}
    units: dict[str, str] = {}
    trouble = []
    for seed, run in runs.items():
        if run is None:
            trouble.append(f"the run of seed {seed} never finished")
            continue
        if run.state == "failed":
            trouble.append(f"the run of seed {seed} failed ({run.reason})")
        for metric in run.metrics.values():
            values.setdefault(metric.name, {})[seed] = float(metric.value)
            units[metric.name] = metric.unit
    return Observations(profile, "run", values, units, "; ".join(trouble))


def _plan(
    project: Project, cards: Mapping[str, Card], profile: str, overrides: Mapping[str, str], only_look: bool
) -> "list[PlannedRun]":
    """The runs of `profile`, each with the overrides that its notebook has. Raises one WrongUse for all."""
    from lib.engine.batch import plan_runs

    plans: list[PlannedRun] = []
    problems: list[str] = []
    known: dict[str, None] = {}
    for slug, card in cards.items():
        try:
            check_slug(project, slug)
            names = [parameter.name for parameter in read_parameters(project.notebook(slug))]
            known |= dict.fromkeys(names)
            folder = not only_look or wants_data_root(project, card, profile)
            fitting = {
                name: [value]
                for name, value in overrides.items()
                if name in names and (folder or name != DATA_ROOT)
            }
            plans += plan_runs(project, [slug], profile, fitting, only_look=only_look)
        except WrongUse as error:
            problems += str(error).splitlines()
    unknown = [name for name in overrides if name not in known]
    problems += [f"no audited notebook has a parameter {name!r}{nearest(name, known)}" for name in unknown]
    if problems:
        raise WrongUse("\n".join(dict.fromkeys(problems)))
    return plans


def _found(store: Store, planned: "Sequence[PlannedRun]") -> dict[str, dict[int, Run | None]]:
    """Profile -> seed -> the current run in the store."""
    found: dict[str, dict[int, Run | None]] = {name: {} for name in PROFILES}
    for plan in planned:
        found[plan.profile][plan.seed] = store.get(plan.slug, plan.key)
    return found


def _judge_paper(
    project: Project,
    card: Card,
    profile: str,
    found: Mapping[str, Mapping[int, Run | None]],
    evidence: Mapping[str, Evidence],
    run_missing: bool,
) -> PaperAudit:
    order = [profile, *(name for name in reversed(PROFILES) if name != profile)]
    verdicts = []
    for claim in card.claims:
        answers = []
        for name in order:
            begun = any(run is not None for run in found[name].values())
            if begun or (run_missing and name == profile):
                answers.append(judge(claim, observe(name, found[name]), card.slug))
            else:
                answers.append(judge_without_runs(claim, name, card.slug))
        first, *rest = answers
        if first.state is State.NOT_ASSESSED:
            first = next((answer for answer in rest if answer.state in _SETTLED), first)
        verdicts.append(_with_command(project, card, claim, first))
    used = {profile, *(verdict.profile for verdict in verdicts)}
    runs = [run for name in order if name in used for run in found[name].values() if run is not None]
    return PaperAudit(
        slug=card.slug,
        profile=profile,
        audited=datetime.now(UTC).isoformat(timespec="seconds"),
        verdicts=tuple(verdicts),
        recorded=tuple(_judge_evidence(project, card, name, item) for name, item in evidence.items()),
        runs=tuple(_judged_run(project, run) for run in runs),
    )


def _with_command(project: Project, card: Card, claim: Claim, verdict: Verdict) -> Verdict:
    if not verdict.command:
        return verdict
    return replace(verdict, command=command_for(project, card, claim.needs.profile))


def _judge_evidence(project: Project, card: Card, file: str, evidence: Evidence) -> RecordedVerdicts:
    return RecordedVerdicts(
        file=file,
        profile=evidence.profile,
        commit=evidence.commit,
        recorded=evidence.recorded,
        machine=evidence.machine,
        verdicts=tuple(
            _with_command(project, card, claim, judge(claim, evidence.observations, card.slug))
            for claim in card.claims
        ),
    )


def _judged_run(project: Project, run: Run) -> JudgedRun:
    path = run.path.relative_to(project.root).as_posix()
    return JudgedRun(run.id, path, run.state, run.reason, run.profile, run.seed, run.seconds)


def _kept(project: Project, slug: str) -> Path:
    return project.runs / "verdicts" / f"{slug}.json"


def _keep(project: Project, paper: PaperAudit) -> None:
    path = _kept(project, paper.slug)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, as_json(paper))


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    interval = Interval(**entry["interval"]) if entry["interval"] else None
    return Verdict(
        **{**entry, "state": State(entry["state"]), "interval": interval, "seeds": tuple(entry["seeds"])}
    )
