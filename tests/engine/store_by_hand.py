"""Published runs without executing a notebook: for tests of what judges and shows runs."""

import json
from collections.abc import Mapping

from lib.engine.batch import PlannedRun, plan_runs
from lib.engine.store import NOTEBOOK, Run, Store, write_json
from lib.project import Project

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6260606060000000050001a5f645400000000049454e44ae426082"
)

Metrics = Mapping[str, tuple[float | bool, str]]


def publish(
    project: Project,
    plan: PlannedRun,
    metrics: Metrics,
    state: str = "ok",
    reason: str = "",
    notebook: Mapping[str, object] | None = None,
    figures: tuple[str, ...] = (),
) -> Run:
    """Puts a finished run of `plan` into the store."""
    store = Store(project)
    with store.locked(plan.slug, plan.key):
        partial = store.new_partial(plan.slug, plan.key)
        entries = {
            name: {"value": value, "unit": unit, "seed": plan.seed} for name, (value, unit) in metrics.items()
        }
        write_json(partial / "metrics.json", entries)
        provenance = {
            "parameters": plan.parameters,
            "components": plan.components,
            "git": {"commit": "c0ffee", "dirty": None},
            "python": "3.11.0",
            "machine": {"processor": "A Processor", "logical_cpus": 2},
        }
        write_json(partial / "provenance.json", provenance)
        source = json.loads(project.notebook(plan.slug).read_text(encoding="utf-8"))
        write_json(partial / NOTEBOOK, notebook or source)
        for name in figures:
            (partial / f"{name}.png").write_bytes(PIXEL)
        status = {
            "state": state,
            "reason": reason,
            "missing": [],
            "profile": plan.profile,
            "seed": plan.seed,
            "seconds": 1.0,
            "finished": f"2026-01-01T00:00:{plan.seed:02d}.000+00:00",
        }
        return store.publish(partial, plan.slug, plan.key, status)


def toy_metrics(seed: int, gain: float = 0.1) -> Metrics:
    """What the toy notebook records, with `better` ahead by about `gain`."""
    return {
        "kept": (70.0, "percent"),
        "better": (0.7 + gain + seed / 1000, ""),
        "worse": (0.7, ""),
    }


def publish_profile(project: Project, profile: str, gain: float = 0.1) -> list[Run]:
    """Good runs of the toy for every seed of `profile`."""
    plans = plan_runs(project, ["toy"], profile, {})
    return [publish(project, plan, toy_metrics(plan.seed, gain)) for plan in plans]
