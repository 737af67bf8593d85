"""The command as a whole: help, exit codes, errors as one message on stderr, nothing left by wrong use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.project import Project
from tests.commands import repro
from tests.toy import toy_project

HEAVY = (
    "torch",
    "timm",
    "pandas",
    "numpy",
    "distributed",
    "papermill",
    "nbconvert",
    "matplotlib",
    "pydantic",
)


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    return toy_project(tmp_path / "toy")


def test_help_needs_none_of_the_heavy_packages() -> None:
    code = (
        "import sys\nfrom lib.engine.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & set(HEAVY) == set()


@pytest.mark.parametrize(
    "verb",
    [
        *("list", "params", "run", "batch", "rerun", "runs", "diff", "audit", "report"),
        *("new", "nb", "data", "doctor", "lab", "test", "bench"),
    ],
)
def test_every_verb_has_help(toy: Project, verb: str) -> None:
    done = repro(toy, verb, "--help")
    assert done.code == 0
    assert f"./repro {verb}" in done.out


def test_an_unknown_verb_is_answered_with_the_nearest(toy: Project) -> None:
    done = repro(toy, "lst")
    assert done.code == 2
    assert "Did you mean 'list'?" in done.err


def test_a_project_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    done = repro(Project(tmp_path / "absent"), "list")
    assert done.code == 2
    assert done.err.startswith("error: --project")


def test_everything_wrong_with_a_run_is_told_at_once_and_nothing_is_left(toy: Project) -> None:
    wrong = ["kep_ratio=0.5", "keep_ratio=1.7", "flag=maybe", "selector=atention", "sizes=[1,x]", "loose"]
    done = repro(toy, "run", "toy", *(word for item in wrong for word in ("-p", item)))
    assert done.code == 2
    assert done.out == ""
    for mistake in ("'keep_ratio'?", "maximum 1", "flag=maybe", "'attention'?", "sizes=[1,x]", "-p loose"):
        assert mistake in done.err
    assert not toy.runs.exists()


def test_everything_wrong_with_a_batch_is_told_together(toy: Project) -> None:
    done = repro(toy, "batch", "toy", "toi", "--profile", "smal", "-g", "keep_ratio=abc", "--seeds", "x")
    assert done.code == 2
    for mistake in ("no paper 'toi'", "no profile 'smal'", "keep_ratio=abc", "--seeds x"):
        assert done.err.count(mistake) == 1


def test_wrong_paper_and_wrong_profile_are_told_together(toy: Project) -> None:
    done = repro(toy, "run", "toi", "--profile", "smal")
    assert done.code == 2
    assert "did you mean 'toy'?" in done.err
    assert "did you mean 'small'?" in done.err


def test_everything_wrong_with_a_batch_is_told_at_once_and_nothing_is_left(toy: Project) -> None:
    grid = ["-g", "keep_ratio=0.5,abc", "-g", "flag", "--grid", str(toy.root / "absent.yaml")]
    done = repro(toy, "batch", "toy", *grid, "--seeds", "4-0", "--profile", "smal")
    assert done.code == 2
    assert done.out == ""
    for mistake in ("-g flag", "absent.yaml", "--seeds 4-0", "did you mean 'small'?"):
        assert mistake in done.err
    assert not toy.runs.exists()


def test_a_parameter_given_alone_and_as_a_grid_is_wrong_use(toy: Project) -> None:
    done = repro(toy, "batch", "toy", "-g", "keep_ratio=0.5,0.6", "-p", "keep_ratio=0.7")
    assert done.code == 2
    assert "keep_ratio is given by -p and as a grid" in done.err


def test_a_notebook_without_a_parameter_cell_is_wrong_use(toy: Project) -> None:
    toy.notebook("toy").write_text(json.dumps({"cells": []}))
    done = repro(toy, "run", "toy")
    assert done.code == 2
    assert "tagged 'parameters'" in done.err


def test_a_dry_run_multiplies_grids_and_seeds_and_starts_nothing(toy: Project) -> None:
    grid = ["-g", "keep_ratio=0.5,0.7", "-g", "sizes=[3,6],[4,8]", "--seeds", "0-2"]
    done = repro(toy, "batch", "toy", *grid, "--dry-run", "--json")
    assert done.code == 0
    plan = done.json
    assert len({entry["key"] for entry in plan}) == 12
    assert {entry["action"] for entry in plan} == {"run"}
    assert {str(entry["parameters"]["sizes"]) for entry in plan} == {"[3, 6]", "[4, 8]"}
    assert not toy.runs.exists()


def test_a_dry_run_says_how_long_it_would_take_and_names_duplicates(toy: Project) -> None:
    done = repro(toy, "batch", "toy", "-g", "keep_ratio=0.5,0.7,0.5", "--dry-run")
    assert "2 runs to do, 0 done; about 2 min (card's minutes of the smoke profile" in done.err
    assert "keep_ratio: 0.5 stands twice in the grid and is run once" in done.err


def test_params_show_types_ranges_and_profiles(toy: Project) -> None:
    done = repro(toy, "params", "toy", "--json")
    assert done.code == 0
    rows = {row["name"]: row for row in done.json}
    assert rows["keep_ratio"]["type"] == "float"
    assert rows["keep_ratio"]["allowed"] == "0.2 to 1"
    assert rows["selector"]["allowed"] == "attention, random"
    assert rows["pause_s"]["small"] == 0.0


def test_list_names_papers_that_were_never_audited(toy: Project) -> None:
    done = repro(toy, "list")
    assert done.code == 0
    assert "not audited yet" in done.out


def test_an_unknown_benchmark_is_answered_with_the_nearest(toy: Project) -> None:
    _write_benchmark(toy)
    done = repro(toy, "bench", "vits")
    assert done.code == 2
    assert "did you mean 'vit'?" in done.err


def test_benchmarks_are_listed_with_the_first_line_of_what_they_say(toy: Project) -> None:
    _write_benchmark(toy)
    done = repro(toy, "bench", "--json")
    assert done.code == 0
    assert done.json == [{"name": "vit", "measures": "Dense against gathered."}]


def test_a_benchmark_gets_its_arguments_and_a_fixed_number_of_threads(toy: Project) -> None:
    _write_benchmark(toy)
    command = [sys.executable, "-m", "lib", "--project", str(toy.root), "bench", "vit", "--json", "-x", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")
    threads, *arguments = done.stdout.split()
    assert int(threads) >= 1
    assert arguments == ["--json", "-x", "3"]


def test_tests_run_in_pytest_with_the_arguments_passed_on(toy: Project) -> None:
    (toy.root / "test_one.py").write_text("def test_a():\n    pass\n\ndef test_b():\n    assert 0\n")
    command = [sys.executable, "-m", "lib", "--project", str(toy.root), "test", "-q", "-k", "test_a"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "1 passed" in done.stdout.splitlines()[-1]


def test_all_tests_run_when_nothing_is_passed_on(toy: Project) -> None:
    (toy.root / "test_one.py").write_text("def test_a():\n    pass\n\ndef test_b():\n    pass\n")
    command = [sys.executable, "-m", "lib", "--project", str(toy.root), "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "2 passed" in done.stdout.splitlines()[-1]


def test_notebooks_are_checked_and_fixed(toy: Project) -> None:
    notebook = json.loads(toy.notebook("toy").read_text())
    notebook["cells"][1]["execution_count"] = 3
    toy.notebook("toy").write_text(json.dumps(notebook))
    checked = repro(toy, "nb", "check", "--json")
    assert checked.code == 1
    assert any("execution count" in row["message"] for row in checked.json)
    fixed = repro(toy, "nb", "fix", "toy")
    assert (fixed.code, fixed.last_line) == (0, str(toy.notebook("toy")))
    assert not any("execution count" in row["message"] for row in repro(toy, "nb", "check", "--json").json)


def test_an_unknown_notebook_is_answered_with_the_nearest(toy: Project) -> None:
    done = repro(toy, "nb", "fix", "toi")
    assert done.code == 2
    assert "did you mean 'toy'?" in done.err


def test_a_damaged_sample_fails_the_check(toy: Project) -> None:
    (toy.samples / "stray.npz").write_bytes(b"stray")
    done = repro(toy, "data", "check", "--json")
    assert done.code == 1
    assert done.json[0]["state"] == "unlisted"


@pytest.mark.parametrize(
    ("name", "answer"), [("imagnet", "did you mean 'imagenet'?"), ("imagenet", "cannot be downloaded")]
)
def test_data_that_cannot_be_downloaded_is_wrong_use(toy: Project, name: str, answer: str) -> None:
    done = repro(toy, "data", "get", name)
    assert done.code == 2
    assert answer in done.err


def _write_benchmark(project: Project) -> None:
    folder = project.root / "benchmarks"
    folder.mkdir()
    (folder / "vit.py").write_text(
        '"""Dense against gathered.\n\nMore."""\nimport os, sys\n'
        'print(os.environ["OMP_NUM_THREADS"], *sys.argv[1:])\nsys.exit(7)\n'
    )
