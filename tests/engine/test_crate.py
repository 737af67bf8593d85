"""Runs as an RO-Crate: what an archive holds, read back by the library, and what is refused."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from lib.engine.batch import plan_runs
from lib.engine.crate import write_crate
from lib.engine.store import Run, Store
from lib.errors import WrongUse
from lib.project import Project
from tests.commands import repro
from tests.engine.store_by_hand import publish, publish_profile, toy_metrics
from tests.toy import toy_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path / "toy")


@pytest.fixture
def runs(project: Project) -> list[Run]:
    return publish_profile(project, "small")


def test_files_are_those_of_the_store(project: Project, runs: list[Run], tmp_path: Path) -> None:
    path = write_crate(project, runs, tmp_path / "toy.zip")
    with zipfile.ZipFile(path) as archive:
        for run in runs:
            inside = f"runs/toy/{run.key[:16]}"
            status = json.loads(archive.read(f"{inside}/status.json"))
            for name, digest in status["files"].items():
                assert hashlib.sha256(archive.read(f"{inside}/{name}")).hexdigest() == digest
        assert archive.read("notebooks/toy.ipynb") == project.notebook("toy").read_bytes()
        assert archive.read("papers/toy.yaml") == project.card("toy").read_bytes()


def test_every_run_is_an_action_from_parameters_to_metrics(
    project: Project, runs: list[Run], tmp_path: Path
) -> None:
    crate = ROCrate(write_crate(project, runs, tmp_path / "toy.zip"))
    actions = {entity.id: entity for entity in crate.get_entities() if entity.type == "CreateAction"}
    assert set(actions) == {f"#run-{run.key[:16]}" for run in runs}
    action = actions[f"#run-{runs[1].key[:16]}"]
    assert action["instrument"].id == "notebooks/toy.ipynb"
    given = {entity["name"]: entity.get("value") for entity in action["object"]}
    assert given["seed"] == runs[1].seed
    assert "run_dir" not in given
    measured = {entity["name"]: entity.get("value") for entity in action["result"] if entity.get("value")}
    assert measured == {name: metric.value for name, metric in runs[1].metrics.items()}
    assert action["startTime"] < action["endTime"]


def test_recorded_evidence_goes_along(project: Project, runs: list[Run], tmp_path: Path) -> None:
    record = project.evidence / "toy" / "small.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    with zipfile.ZipFile(write_crate(project, runs, tmp_path / "toy.zip")) as archive:
        assert archive.read("evidence/toy/small.json") == b"{}"


def test_what_is_no_result_is_refused(project: Project, tmp_path: Path) -> None:
    (plan,) = plan_runs(project, ["toy"], "smoke", {})
    failed = publish(project, plan, toy_metrics(0), state="failed", reason="a cell raised")
    with pytest.raises(WrongUse, match="is failed and no result: a cell raised"):
        write_crate(project, [failed], tmp_path / "toy.zip")
    with pytest.raises(WrongUse, match="no finished run to export"):
        write_crate(project, [], tmp_path / "toy.zip")


@pytest.mark.parametrize(
    ("name", "told"), [("toy.tar", r"end in \.zip"), ("no/toy.zip", "there is no folder")]
)
def test_a_place_that_cannot_be_is_refused(
    project: Project, runs: list[Run], tmp_path: Path, name: str, told: str
) -> None:
    with pytest.raises(WrongUse, match=told):
        write_crate(project, runs, tmp_path / name)
    assert not list(tmp_path.glob("*.zip"))


def test_the_verb_takes_a_paper_or_a_run(project: Project, runs: list[Run], tmp_path: Path) -> None:
    whole, one = tmp_path / "all.zip", tmp_path / "one.zip"
    assert repro(project, "export", "toy", "-o", str(whole)).last_line == str(whole)
    assert repro(project, "export", runs[0].key, "-o", str(one)).code == 0
    counts = [
        sum(entity.type == "CreateAction" for entity in ROCrate(path).get_entities()) for path in (whole, one)
    ]
    assert counts == [len(Store(project).runs("toy")), 1]
    unknown = repro(project, "export", "tiy")
    assert unknown.code == 2
    assert "there is no run 'tiy'" in unknown.err
