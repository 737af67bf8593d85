"""README and CONTRIBUTING name only commands, files and packages that exist."""

import re
import shlex
import tomllib
from typing import Any

import pytest
import typer

from lib.engine.cli.app import build_app
from lib.project import REPOSITORY

ROOT = REPOSITORY.root
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
COMMAND = re.compile(r"\./repro ([^`\n#]+)")
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_their_options_exist(name: str) -> None:
    found = COMMAND.findall((ROOT / name).read_text())
    assert found
    for text in found:
        command: Any = typer.main.get_command(build_app())
        words = shlex.split(text)
        while hasattr(command, "commands"):  # a group of verbs
            assert words, f"./repro {text}: a verb is missing"
            assert words[0] in command.commands, f"./repro {text}: no verb {words[0]!r}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
        assert not unknown, f"./repro {text}: no option {', '.join(unknown)}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_linked_files_exist(name: str) -> None:
    for target in LINK.findall((ROOT / name).read_text()):
        assert (ROOT / target).exists(), target


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    present = [path.parent for top in ("lib", "hw_models") for path in (ROOT / top).rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(path.relative_to(ROOT).parts) for path in present)
