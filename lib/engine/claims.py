"""The five kinds of claim that a card may make, checked field by field.

value: a metric equals a figure; ratio: a quotient of two does; ordering: one metric beats another;
trend: metrics rise or fall along a sweep; property: a metric meets a condition. Nothing here knows of a run.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lib.errors import WrongUse

PROFILES = ("smoke", "small", "paper")
"""The profiles, smallest first: a claim is settled by the profile it needs and by every larger one."""

FEWEST_SEEDS = 5
"""Least seeds on which a measured ordering or trend may be judged."""

ProfileName = Literal["smoke", "small", "paper"]
_EXPONENT_TEXT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def _number(value: Any) -> Any:
    """`value` if it is a finite number; text is refused although pydantic could convert it."""
    if isinstance(value, str):
        raise ValueError(text_trap(value) or f"{value!r} is text where a number is due")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def text_trap(value: str) -> str | None:
    """The remedy for a number that YAML 1.1 reads as text, None for any other text."""
    if not _EXPONENT_TEXT.fullmatch(value):
        return None
    mantissa, exponent = re.split("[eE]", value)
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{value!r} is text in YAML 1.1, not a number; write {mantissa}e{sign}{exponent}"


def _number_or_bool(value: Any) -> Any:
    return value if isinstance(value, bool) else _number(value)


def _web_address(value: str) -> str:
    if not re.match(r"https?://\S+$", value):
        raise ValueError(f"{value!r} is not a web address (https://...)")
    return value


Number = Annotated[float, BeforeValidator(_number)]
NotNegative = Annotated[Number, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Url = Annotated[str, AfterValidator(_web_address)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class CardModel(BaseModel):
    """Part of a card: frozen, no unknown fields, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(CardModel):
    """Where the paper's figure was read. A recalled figure was not confirmed and settles nothing."""

    url: Url | None = None
    confidence: Literal["seen", "recalled"]
    directness: Literal["primary", "secondary", "derived"] = "primary"

    @model_validator(mode="after")
    def _seen_somewhere(self) -> "Source":
        if self.confidence == "seen" and self.url is None:
            raise ValueError("a figure that was seen needs the url where it was seen")
        return self


class PaperFigure(CardModel):
    """The paper's own figure: one value, or a range from low to high."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _value_or_range(self) -> "PaperFigure":
        one, ends = self.value is not None, [end for end in (self.low, self.high) if end is not None]
        if one == bool(ends) or (ends and len(ends) < 2):
            raise ValueError("give either value, or both low and high")
        if ends and ends[0] > ends[1]:
            raise ValueError(f"low {ends[0]:g} is above high {ends[1]:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value that the paper's figure stands for (equal for a single value)."""
        if self.value is not None:
            return self.value, self.value
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


class Tolerance(CardModel):
    """How far from the paper's figure still counts as reproduced, on the claim's own scale, and why."""

    absolute: NotNegative | None = None
    relative: NotNegative | None = None
    why: Text

    @model_validator(mode="after")
    def _absolute_or_relative(self) -> "Tolerance":
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("give exactly one of absolute and relative")
        return self

    def around(self, low: float, high: float) -> tuple[float, float]:
        """Lowest and highest value that still count as reproduced for the paper's figure low..high."""
        if self.absolute is not None:
            return low - self.absolute, high + self.absolute
        assert self.relative is not None
        return low - self.relative * abs(low), high + self.relative * abs(high)


class Needs(CardModel):
    """The smallest profile that may settle a claim and the least number of seeds."""

    profile: ProfileName
    seeds: Annotated[int, Field(ge=1)]


class _Claim(CardModel):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    statement: Text
    where: Text
    source: Source
    evidence: Literal["analytic", "modelled", "measured"]
    needs: Needs
    unsettled: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_needs(cls, fields: Any) -> Any:
        """Default needs: what DESIGN's table of profiles says of this kind and evidence."""
        if not isinstance(fields, dict) or not isinstance(fields.get("needs", {}), dict):
            return fields
        kind, measured = fields.get("kind"), fields.get("evidence") == "measured"
        if measured and kind in ("ordering", "trend"):
            default = {"profile": "small", "seeds": FEWEST_SEEDS}
        elif measured and kind in ("value", "ratio"):
            default = {"profile": "paper", "seeds": 1}
        else:
            default = {"profile": "smoke", "seeds": 1}
        return {**fields, "needs": {**default, **fields.get("needs", {})}}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the claim is judged on."""
        raise NotImplementedError

    @property
    def derived(self) -> bool:
        """Whether the claim is a check of ours, derived from the source, rather than the paper's own."""
        return self.source.directness == "derived"

    @property
    def can_settle(self) -> bool:
        """Whether any profile can settle the claim at all."""
        return self.unsettled is None and self.source.confidence == "seen"

    def settled_by(self, profile: str) -> bool:
        """Whether a run of `profile` may settle the claim."""
        return self.can_settle and profile_rank(profile) >= profile_rank(self.needs.profile)


class _FigureClaim(_Claim):
    paper: PaperFigure | None = None
    tolerance: Tolerance | None = None
    floor: NotNegative = 0.0

    @model_validator(mode="after")
    def _has_a_target(self) -> "_FigureClaim":
        if self.unsettled is None and self.paper is None:
            raise ValueError("paper is missing: only a claim that is `unsettled` may leave it out")
        if self.can_settle and self.tolerance is None:
            raise ValueError(
                "tolerance is missing: say how far from the paper's figure is near enough, and why"
            )
        if self.paper and self.tolerance and self.tolerance.relative and 0 in self.paper.ends:
            raise ValueError("a relative tolerance around 0 is empty: give an absolute one")
        return self


class ValueClaim(_FigureClaim):
    """A metric equals the paper's figure."""

    kind: Literal["value"]
    metric: MetricName

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)


class RatioClaim(_FigureClaim):
    """metric / baseline, paired seed by seed, equals the paper's figure."""

    kind: Literal["ratio"]
    metric: MetricName
    baseline: MetricName

    @model_validator(mode="after")
    def _is_a_plain_ratio(self) -> "RatioClaim":
        if self.paper and self.paper.unit not in ("", "x"):
            raise ValueError(f"paper.unit is {self.paper.unit!r}: a ratio of two metrics has unit '' or 'x'")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric, self.baseline)


class _ComparisonClaim(_Claim):
    floor: NotNegative = 0.0
    why: str = ""

    @model_validator(mode="after")
    def _enough_seeds(self) -> "_ComparisonClaim":
        if self.evidence == "measured" and self.can_settle and self.needs.seeds < FEWEST_SEEDS:
            raise ValueError(
                f"needs.seeds is {self.needs.seeds}: a measured comparison takes {FEWEST_SEEDS} or more"
            )
        return self


class OrderingClaim(_ComparisonClaim):
    """One metric is better than another by more than `margin`, paired seed by seed."""

    kind: Literal["ordering"]
    better: MetricName
    worse: MetricName
    higher_is_better: bool = True
    margin: Number = 0.0

    @model_validator(mode="after")
    def _is_a_comparison(self) -> "OrderingClaim":
        if self.better == self.worse:
            raise ValueError(f"better and worse are the same metric {self.better!r}")
        if self.margin and not self.why:
            raise ValueError(f"why is missing: say why the margin is {self.margin:g}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.better, self.worse)


class TrendClaim(_ComparisonClaim):
    """Metrics, in the order of the swept quantity, rise or fall at every step by more than -slack."""

    kind: Literal["trend"]
    ordered_metrics: Annotated[list[MetricName], Field(alias="metrics", min_length=2)]
    direction: Literal["increasing", "decreasing"]
    slack: NotNegative = 0.0

    @model_validator(mode="after")
    def _is_a_sweep(self) -> "TrendClaim":
        if len(set(self.ordered_metrics)) < len(self.ordered_metrics):
            raise ValueError("a metric stands twice in metrics")
        if self.slack and not self.why:
            raise ValueError(f"why is missing: say why the slack is {self.slack:g}")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.ordered_metrics)


class PropertyClaim(_Claim):
    """A metric fulfils one condition for every seed."""

    kind: Literal["property"]
    metric: MetricName
    equals: Annotated[bool | float | None, BeforeValidator(_number_or_bool)] = None
    at_most: Number | None = None
    at_least: Number | None = None
    unit: str | None = None
    tolerance: Tolerance | None = None

    @model_validator(mode="after")
    def _is_one_condition(self) -> "PropertyClaim":
        if sum(bound is not None for bound in (self.equals, self.at_most, self.at_least)) != 1:
            raise ValueError("give exactly one of equals, at_most and at_least")
        if self.tolerance is not None and (self.equals is None or self.tolerance.absolute is None):
            raise ValueError("tolerance belongs to equals and must be absolute")
        if self.equals is not None and self.tolerance is None and self.equals != int(self.equals):
            raise ValueError(f"tolerance is missing: {self.equals} is no whole number, so `equals` needs one")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)


Claim = ValueClaim | RatioClaim | OrderingClaim | TrendClaim | PropertyClaim


def profile_rank(profile: str) -> int:
    """0 for the smallest profile. Raises WrongUse for an unknown name."""
    if profile not in PROFILES:
        raise WrongUse(f"unknown profile {profile!r}; choose from {', '.join(PROFILES)}")
    return PROFILES.index(profile)
