"""Cards: what a paper claims, and under which conditions a run may settle each claim.

A card is ``data/papers/<slug>.yaml``. `load_card` checks it completely and reports every mistake at once,
each with the file and the path of the field.
"""

import difflib
import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

try:
    from yaml import CSafeLoader as Loader
except ImportError:
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

from lib.engine.claims import PROFILES, CardModel, Claim, Number, Text, Url, text_trap
from lib.errors import WrongUse
from lib.project import Project


def _setting(value: Any) -> Any:
    """`value` if a notebook parameter can take it: a bool, number or text, or a list of one of them."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, bool | int | float | str) for item in items):
        raise ValueError(f"{value!r} is no bool, number or text, nor a list of them")
    for item in items:
        if isinstance(item, str) and (remedy := text_trap(item)):
            raise ValueError(remedy)
    return value


Setting = Annotated[bool | int | float | str | list[Any], BeforeValidator(_setting)]


class Code(CardModel):
    """The authors' released code."""

    url: Url
    commit: str | None = None
    licence: str | None = None
    note: str = ""


class ParameterRange(CardModel):
    """What a notebook parameter may be: bounds (inclusive) of a number, or a list of choices."""

    minimum: Number | None = None
    maximum: Number | None = None
    choices: list[Setting] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "ParameterRange":
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bool(bounds) == bool(self.choices):
            raise ValueError("give either minimum and/or maximum, or a list of choices")
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise ValueError(f"minimum {bounds[0]:g} is above maximum {bounds[1]:g}")
        return self


class Profile(CardModel):
    """One size of the experiment: overrides of the notebook's parameters, seeds, and minutes a seed."""

    minutes: Annotated[Number, Field(gt=0)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    data: Literal["embedded", "public", "paper"]
    parameters: dict[str, Setting] = Field(default_factory=dict)
    requires: str | None = None

    @model_validator(mode="after")
    def _seeds_differ(self) -> "Profile":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice in seeds")
        return self


class Deviation(CardModel):
    """Something done otherwise than in the paper or its code."""

    what: Text
    why: Text
    effect: Text


class Finding(CardModel):
    """An inconsistency in the paper or its code, with the arithmetic that shows it."""

    title: Text
    arithmetic: Text
    consequence: Text


class Card(CardModel):
    """One paper: identity, sizes of its experiment, claims, deviations and findings."""

    slug: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: Text
    authors: Annotated[list[Text], Field(min_length=1)]
    venue: Text
    year: Annotated[int, Field(ge=1950, le=2100)]
    family: Literal["vit", "cnn", "finegrained", "rnn", "quantum", "hardware"]
    links: dict[str, Url]
    code: Code | None = None
    summary: Text
    data: list[Text] = Field(default_factory=list)
    parameters: dict[str, ParameterRange] = Field(default_factory=dict)
    profiles: dict[str, Profile]
    claims: Annotated[list[Annotated[Claim, Field(discriminator="kind")]], Field(min_length=1)]
    deviations: list[Deviation] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits_together(self) -> "Card":
        problems = []
        if set(self.profiles) != set(PROFILES):
            problems.append(f"profiles are {', '.join(self.profiles)}: they must be {', '.join(PROFILES)}")
        twice = [name for name, count in Counter(claim.id for claim in self.claims).items() if count > 1]
        if twice:
            problems.append(f"claims: id {', '.join(twice)} stands twice")
        for index, claim in enumerate(self.claims):
            profile = self.profiles.get(claim.needs.profile)
            if claim.can_settle and profile and len(profile.seeds) < claim.needs.seeds:
                problems.append(
                    f"claims[{index}].needs: {claim.needs.seeds} seeds of profile {claim.needs.profile}, "
                    f"which runs only {len(profile.seeds)}"
                )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def required_metrics(self, profile: str) -> set[str]:
        """Metrics that a run of `profile` must record: those of the claims that it may settle."""
        return {name for claim in self.claims if claim.settled_by(profile) for name in claim.metrics}


def load_card(path: Path) -> Card:
    """The card in `path`. Raises WrongUse that lists every mistake as ``file: field: what to do``."""
    shown = "/".join(path.parts[-3:])
    try:
        fields = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise WrongUse(_no_such_card(path, shown)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WrongUse(f"{shown}: not readable as YAML: {error}") from None
    if not isinstance(fields, dict):
        raise WrongUse(f"{shown}: a card is a mapping (slug: ..., title: ...), not {type(fields).__name__}")
    try:
        card = Card.model_validate(fields)
    except ValidationError as error:
        raise WrongUse("\n".join(_complaints(shown, error))) from None
    if card.slug != path.stem:
        raise WrongUse(f"{shown}: slug: {card.slug!r} differs from the file name; call both {path.stem!r}")
    return card


def load_cards(project: Project) -> dict[str, Card]:
    """All cards of the project by slug, sorted. Raises WrongUse that lists the mistakes of all files."""
    cards, problems = {}, []
    for slug in project.slugs():
        try:
            cards[slug] = load_card(project.card(slug))
        except WrongUse as error:
            problems.append(str(error))
    if problems:
        raise WrongUse("\n".join(problems))
    return cards


def _no_such_card(path: Path, shown: str) -> str:
    others = sorted(other.stem for other in path.parent.glob("*.yaml"))
    near = difflib.get_close_matches(path.stem, others, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(others) or 'none yet'}"
    return f"no paper {path.stem!r} ({shown} does not exist); {hint}"


def _complaints(shown: str, error: ValidationError) -> list[str]:
    """One ``file: field: message`` line per mistake."""
    lines = []
    for detail in error.errors(include_url=False):
        field = _field_path(detail["loc"])
        if detail["type"] == "value_error":
            messages = str(detail["ctx"]["error"]).split("\n")
        elif detail["type"] == "extra_forbidden":
            messages = ["unknown field; remove it or correct its name"]
        else:
            messages = [detail["msg"]]
        lines += [f"{shown}: {field}: {message}" if field else f"{shown}: {message}" for message in messages]
    return list(dict.fromkeys(lines))


def _field_path(location: tuple[int | str, ...]) -> str:
    """``claims[3].tolerance.absolute``, without pydantic's own marks for the branch of a union."""
    path = ""
    for position, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif position == 2 and location[0] == "claims":
            continue
        elif re.fullmatch(r"[\w-]+", part) and part not in ("bool", "int", "float", "str"):
            path += f".{part}" if path else part
    return path


class _UniqueKeys(Loader):
    """YAML in which a key that stands twice in one mapping is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping",
                    node.start_mark,
                    f"key {key!r} stands twice",
                    key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
