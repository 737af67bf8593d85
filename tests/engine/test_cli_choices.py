"""What the user typed is parsed strictly, and all mistakes are told at once."""

from pathlib import Path

import pytest

from lib.engine.cli.choices import (
    Problems,
    check_slugs,
    parse_assignments,
    parse_grid,
    parse_seeds,
    read_grid_file,
    split_values,
)
from lib.errors import WrongUse
from lib.project import Project


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5", ["0.5"]),
        ("0.5,0.7", ["0.5", "0.7"]),
        ("[3,6],[4,8]", ["[3,6]", "[4,8]"]),
        ("[],[3]", ["[]", "[3]"]),
        (" a , b ", ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ("a,", ["a", ""]),
    ],
)
def test_values_are_separated_by_commas_outside_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,2,5", [0, 2, 5]),
        ("7", [7]),
        ("0-2,7", [0, 1, 2, 7]),
        ("3-3", [3]),
        ("0-2,1", [0, 1, 2]),
    ],
)
def test_seeds_are_ranges_and_lists(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


def test_no_seeds_option_leaves_the_seeds_to_the_profile() -> None:
    assert parse_seeds(None) is None


@pytest.mark.parametrize("text", ["", "a", "4-0", "0-", "-1", "1.5", "0,,2", "0-1-2", "0-99999999"])
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="--seeds"):
        parse_seeds(text)


def test_assignments_keep_everything_after_the_first_equals_sign() -> None:
    assert parse_assignments(["note=a=b", "empty="], Problems()) == {"note": "a=b", "empty": ""}


def test_all_bad_assignments_are_told_at_once() -> None:
    problems = Problems()
    assert parse_assignments(["lr", "=3", "x=1", "x=2"], problems) == {"x": "1"}
    with pytest.raises(WrongUse) as caught:
        problems.check()
    assert [line.split(":")[0].split(" is ")[0] for line in str(caught.value).splitlines()] == [
        "-p lr",
        "-p =3",
        "-p x",
    ]


def test_grid_options_and_grid_file_together(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("lr: [0.1, 0.01]\nstages: [[3, 6], [4, 8]]\n")
    assert parse_grid(["keep=0.5,0.7"], file, Problems()) == {
        "keep": ["0.5", "0.7"],
        "lr": [0.1, 0.01],
        "stages": [[3, 6], [4, 8]],
    }


def test_a_name_given_by_option_and_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("lr: [0.1]\n")
    problems = Problems()
    parse_grid(["lr=0.2"], file, problems)
    with pytest.raises(WrongUse, match="lr is given by -g and by"):
        problems.check()


@pytest.mark.parametrize("content", ["", "- 1\n", "lr: 0.1\n", "lr: []\n", "3: [1]\n", "lr: [\n"])
def test_a_grid_file_that_is_no_mapping_of_lists_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(content)
    with pytest.raises(WrongUse, match=r"grid\.yaml"):
        read_grid_file(file)


def test_a_missing_grid_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be read"):
        read_grid_file(tmp_path / "absent.yaml")


@pytest.mark.parametrize("option", ["lr", "lr=", "=1,2", "lr=1,,2"])
def test_a_grid_option_without_name_or_values_is_refused(option: str) -> None:
    problems = Problems()
    assert parse_grid([option], None, problems) == {}
    with pytest.raises(WrongUse, match="write it as name=value,value"):
        problems.check()


def test_problems_of_several_steps_come_in_one_error() -> None:
    problems = Problems()
    with problems.noted():
        parse_seeds("x")
    parse_assignments(["y"], problems)
    with pytest.raises(WrongUse) as caught:
        problems.check()
    assert len(str(caught.value).splitlines()) == 2


def test_no_problems_no_error() -> None:
    Problems().check()


def test_all_stands_for_every_paper(tmp_path: Path) -> None:
    project = _project(tmp_path, "alpha", "beta")
    assert check_slugs(project, ["all"]) == ["alpha", "beta"]
    assert check_slugs(project, [], all_if_none=True) == ["alpha", "beta"]


def test_every_unknown_paper_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as caught:
        check_slugs(_project(tmp_path, "alpha", "beta"), ["alpa", "beta", "beto"])
    first, second = str(caught.value).splitlines()
    assert "'alpa'; did you mean 'alpha'?" in first
    assert "'beto'; did you mean 'beta'?" in second


def test_a_project_without_papers_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="/repro new"):
        check_slugs(Project(tmp_path), ["alpha"])


def _project(root: Path, *slugs: str) -> Project:
    project = Project(root)
    project.cards.mkdir(parents=True)
    project.notebooks.mkdir()
    for slug in slugs:
        project.card(slug).touch()
        project.notebook(slug).touch()
    return project
