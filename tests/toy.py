"""A miniature project for tests: one card, and one notebook that needs no torch and sleeps for a moment."""

import json
from pathlib import Path

import yaml

from lib.project import Project

PARAMETERS = """\
profile: str = "smoke"  # size of the experiment
seed: int = 0  # seed of everything random
device: str = "cpu"  # where to compute
run_dir: str = ""  # where results go; empty writes nothing
keep_ratio: float = 0.7  # share of tokens kept
selector: str = "attention"  # which tokens stay
flag: bool = True  # a switch
sizes: list[int] = [4, 8]  # sizes to try
pause_s: float = 1.0  # seconds that the notebook sleeps
trouble: str = ""  # Python to execute in the middle
"""

CELLS = (
    "from time import sleep\n\nfrom lib.lab.record import open_run",
    'run = open_run("toy", run_dir=run_dir, seed=seed, profile=profile)',
    "sleep(pause_s / 2)",
    "exec(trouble)",
    "sleep(pause_s / 2)",
    'run.record("kept", keep_ratio * 100, unit="percent")',
    'run.record("better", keep_ratio + 0.1 + seed / 1000)\nrun.record("worse", keep_ratio + seed / 1000)',
)


def toy_card() -> dict[str, object]:
    """The toy's card, as the mapping that its YAML file holds."""
    source = {"url": "https://example.org/toy", "confidence": "seen", "directness": "primary"}
    return {
        "slug": "toy",
        "title": "A Toy",
        "authors": ["A. Author"],
        "venue": "Toys",
        "year": 2022,
        "family": "vit",
        "links": {"paper": "https://example.org/toy"},
        "summary": "Keeps a share of what there is.",
        "data": [],
        "parameters": {
            "keep_ratio": {"minimum": 0.2, "maximum": 1.0},
            "selector": {"choices": ["attention", "random"]},
        },
        "profiles": {
            "smoke": {"minutes": 1, "seeds": [0], "data": "embedded", "parameters": {}},
            "small": {
                "minutes": 1,
                "seeds": [0, 1, 2, 3, 4],
                "data": "embedded",
                "parameters": {"pause_s": 0.0},
            },
            "paper": {"minutes": 60, "seeds": [0], "data": "paper", "parameters": {}},
        },
        "claims": [
            {
                "id": "kept",
                "statement": "Keeps 70 percent.",
                "where": "abstract",
                "source": source,
                "kind": "value",
                "evidence": "analytic",
                "metric": "kept",
                "paper": {"value": 70, "unit": "percent"},
                "tolerance": {"absolute": 0.5, "why": "one rounding step"},
                "floor": 0.01,
                "needs": {"profile": "smoke", "seeds": 1},
            },
            {
                "id": "order",
                "statement": "Better is better than worse.",
                "where": "table 1",
                "source": source,
                "kind": "ordering",
                "evidence": "measured",
                "better": "better",
                "worse": "worse",
                "why": "by design",
                "needs": {"profile": "small", "seeds": 5},
            },
        ],
    }


def toy_project(root: Path, cells: tuple[str, ...] = CELLS) -> Project:
    """A project in `root` with the paper ``toy``; `cells` follow the parameters of its notebook."""
    project = Project(root)
    for folder in (project.notebooks, project.cards, project.samples):
        folder.mkdir(parents=True)
    project.card("toy").write_text(yaml.safe_dump(toy_card(), sort_keys=False), encoding="utf-8")
    write_toy_notebook(project, cells)
    return project


def write_toy_notebook(project: Project, cells: tuple[str, ...], parameters: str = PARAMETERS) -> None:
    """Writes the toy's notebook with these code cells."""
    parameter_cell = {**_code(parameters, 0), "metadata": {"tags": ["parameters"]}}
    text = {"cell_type": "markdown", "id": "text", "metadata": {}, "source": "# A toy"}
    notebook = {
        "cells": [text, parameter_cell, *(_code(cell, n) for n, cell in enumerate(cells, start=1))],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    project.notebook("toy").write_text(json.dumps(notebook), encoding="utf-8")


def _code(source: str, number: int) -> dict[str, object]:
    return {
        "cell_type": "code",
        "id": f"c{number}",
        "metadata": {},
        "source": source.rstrip("\n"),
        "outputs": [],
        "execution_count": None,
    }
