"""Typed parameters: read from the notebook, checked against type, range and choices, all errors at once."""

from pathlib import Path

import pytest

from lib.engine.parameters import Parameter, convert, read_parameters, resolve
from lib.errors import WrongUse
from lib.project import Project
from tests.toy import CELLS, PARAMETERS, toy_project, write_toy_notebook


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return toy_project(tmp_path)


def declare(project: Project, line: str) -> Path:
    """The toy's notebook with one more line in its parameters cell."""
    write_toy_notebook(project, CELLS, PARAMETERS + line)
    return project.notebook("toy")


def test_parameters_are_read_in_order_with_type_default_and_help(project: Project) -> None:
    parameters = read_parameters(project.notebook("toy"))
    assert parameters[4] == Parameter("keep_ratio", "float", 0.7, "share of tokens kept")
    assert parameters[7] == Parameter("sizes", "list[int]", [4, 8], "sizes to try")
    assert [parameter.name for parameter in parameters[:4]] == ["profile", "seed", "device", "run_dir"]


def test_help_may_contain_a_hash_and_the_default_too(project: Project) -> None:
    path = declare(project, 'mark: str = "#"  # shown as # in plots\n')
    assert read_parameters(path)[-1] == Parameter("mark", "str", "#", "shown as # in plots")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("steps = 3", "line 11: write 'name: type = literal"),
        ("steps: int", "line 11: write 'name: type = literal"),
        ("import os", "line 11: write 'name: type = literal"),
        ("steps: int | None = 3", "steps has type int | None; use one of"),
        ("steps: int = 2 + 3", "expected a literal of type int"),
        ("steps: int = 1.5", "expected a literal of type int"),
        ("steps: bool = 1", "expected a literal of type bool"),
        ("seed: int = 1", "seed is declared twice"),
        ("steps: int = (", "is not Python"),
    ],
)
def test_bad_declaration_is_named_with_its_line(project: Project, line: str, complaint: str) -> None:
    with pytest.raises(WrongUse) as error:
        read_parameters(declare(project, line))
    assert str(error.value).startswith("toy.ipynb: ")
    assert complaint in str(error.value)


def test_notebook_must_declare_the_four_common_parameters(project: Project) -> None:
    write_toy_notebook(project, CELLS, 'profile: str = "smoke"\nseed: int = 0\n')
    with pytest.raises(WrongUse, match="must also declare device, run_dir"):
        read_parameters(project.notebook("toy"))


def test_file_that_is_no_notebook_is_named(project: Project) -> None:
    project.notebook("toy").write_text("{", encoding="utf-8")
    with pytest.raises(WrongUse, match=r"toy\.ipynb is not a notebook"):
        read_parameters(project.notebook("toy"))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", "int", 3),
        ("1e-3", "float", 0.001),
        (1, "float", 1.0),
        ("no", "bool", False),
        ("True", "bool", True),
        ("4,8", "list[int]", [4, 8]),
        ("[0.5, 1]", "list[float]", [0.5, 1.0]),
        ("['a', b]", "list[str]", ["a", "b"]),
        ("[]", "list[int]", []),
    ],
)
def test_text_becomes_the_declared_type(text: object, kind: str, value: object) -> None:
    converted = convert(text, kind)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("abc", "float"),
        ("nan", "float"),
        ("inf", "float"),
        ("maybe", "bool"),
        (1, "bool"),
        (1.5, "int"),
        ("1.5", "int"),
        (True, "int"),
        (True, "float"),
        (3, "str"),
        ("1,x", "list[int]"),
        (5, "list[int]"),
    ],
)
def test_value_of_another_type_is_refused(value: object, kind: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller adds the name and the message
        convert(value, kind)


def test_overrides_beat_the_profile_and_the_profile_beats_the_default(project: Project) -> None:
    small = resolve(project, "toy", "small", {"keep_ratio": "0.5"})
    assert (small["pause_s"], small["keep_ratio"], small["selector"]) == (0.0, 0.5, "attention")
    assert (small["profile"], small["seed"]) == ("small", 0)
    assert resolve(project, "toy", "small", {"pause_s": 2}, seed=7)["pause_s"] == 2.0


def test_all_errors_are_listed_at_once(project: Project) -> None:
    wrong = {"kep_ratio": "1", "flag": "maybe", "keep_ratio": "1.7", "selector": "atention", "run_dir": "x"}
    with pytest.raises(WrongUse) as error:
        resolve(project, "toy", "smoke", wrong)
    assert str(error.value).splitlines() == [
        "toy: no parameter 'kep_ratio'; did you mean 'keep_ratio'?",
        "toy: flag=maybe is not a valid bool",
        "toy: 'run_dir' is set by the command, not as a parameter",
        "toy: keep_ratio=1.7 is above its maximum 1",
        "toy: selector=atention is not one of attention, random; did you mean 'attention'?",
    ]


def test_unknown_slug_and_profile_suggest_the_nearest(project: Project) -> None:
    with pytest.raises(WrongUse, match="no paper 'toi'; did you mean 'toy'"):
        resolve(project, "toi", "smoke", {})
    with pytest.raises(WrongUse, match="no profile 'smal'; did you mean 'small'"):
        resolve(project, "toy", "smal", {})


def test_data_root_from_the_home_stays_as_it_was_written(project: Project) -> None:
    declare(project, 'data_root: str = ""\n')
    assert resolve(project, "toy", "smoke", {"data_root": "~/images"})["data_root"] == "~/images"


def test_data_root_in_a_home_that_does_not_exist_is_refused(project: Project) -> None:
    declare(project, 'data_root: str = ""\n')
    with pytest.raises(WrongUse, match="data_root=~nobody-at-all/images: there is no such home"):
        resolve(project, "toy", "smoke", {"data_root": "~nobody-at-all/images"})


def test_relative_data_root_is_refused(project: Project) -> None:
    declare(project, 'data_root: str = ""\n')
    with pytest.raises(WrongUse, match="data_root=images is relative"):
        resolve(project, "toy", "smoke", {"data_root": "images"})
