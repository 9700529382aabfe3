"""From evidence to a verdict: supported, refuted, mixed, unresolved, or not testable here. Never typed, always
computed.

The rule, fixed before any run:

* supported: the 95 % interval lies above 0 in every setting, and Holm's p over the claims of the family is at most .05;
* refuted: the 90 % interval lies below the registered margin in every setting (default margin: half the paper's
  effect);
* mixed: both at once (an effect, yet below the margin), or above 0 in one setting and below the margin in another;
* unresolved: anything else. The minimal detectable effect is printed with it;
* not testable here: the evidence cannot bear on the claim, whatever it says.

On a world (synthetic data) `refuted` also needs a positive control that wins (the world could have shown the effect),
`supported` a negative control that does not win (the gain needs the mechanism's input), and a verdict spans the
settings easy, headline and hard. A claim about a corpus is never settled on a world, and two scopes are never merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from affectcore.errors import EvaluationError
from affectcore.evaluation.statistics import Interval, PairedComparison, holm

Status = Literal["supported", "refuted", "mixed", "unresolved", "not testable here"]
WORLD_SETTINGS = ("easy", "headline", "hard")
WORLD_ITEMS = 6_000
ALPHA = 0.05


@dataclass(frozen=True)
class Scope:
    """The data a finding holds on: kind "corpus", "world" or "computation", and its full name ("cmu_mosei_video")."""

    kind: Literal["corpus", "world", "computation"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@dataclass(frozen=True)
class Part:
    """One setting's result: the claimed effect as a comparison, positive where the claim holds, and a world's controls.

    positive_control: the oracle form of the mechanism against the same baseline. negative_control: the mechanism fed
    with shuffled input against the same baseline. n_items: test items that one seed is scored on.
    """

    setting: str
    effect: PairedComparison
    positive_control: PairedComparison | None = None
    negative_control: PairedComparison | None = None
    n_items: int | None = None


@dataclass(frozen=True)
class Evidence:
    """All that bears on one claim. about="corpus": the claim is about performance on a corpus; "mechanism": on how it
    works.
    """

    claim: str
    scope: Scope
    margin: float
    parts: tuple[Part, ...]
    about: Literal["corpus", "mechanism"] = "mechanism"


@dataclass(frozen=True)
class Fact:
    """A claim that a computation settles: a parameter count, a gradient path, an identity. `test` names the
    computation.
    """

    claim: str
    holds: bool
    test: str
    estimate: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The computed outcome. Numbers are those of the headline setting; p is Holm-adjusted over the family."""

    claim: str
    status: Status
    scope: str
    estimate: float | None
    interval: Interval | None
    p: float | None
    seeds: int | None
    mde: float | None
    margin: float | None
    reason: str


def default_margin(paper_effect: float) -> float:
    """Return half of the effect that the paper reports, the margin where a claim registers no other."""
    if not paper_effect > 0:
        raise EvaluationError(f"the paper's effect must be above 0 in the claim's direction, got {paper_effect}")
    return paper_effect / 2


def settle(fact: Fact) -> Verdict:
    """Return the verdict on a fact of computation: supported or refuted, nothing between."""
    reason = f"settled by computation: {fact.test}"
    status: Status = "supported" if fact.holds else "refuted"
    return Verdict(fact.claim, status, "computation", fact.estimate, None, None, None, None, None, reason)


def judge(family: Sequence[Evidence]) -> list[Verdict]:
    """Return one verdict per claim of a family, p-values corrected by Holm over its testable claims.

    A claim must hold in all its settings, so its p is the largest of theirs. Claims that are not testable are left out
    of the correction. Raises EvaluationError for a claim id given twice, a margin that is not above 0, or a world of
    settings with no name.
    """
    names = [e.claim for e in family]
    if len(set(names)) != len(names):
        raise EvaluationError(
            f"a family holds each claim once, got {sorted(n for n in names if names.count(n) > 1)[0]} twice"
        )
    hurdles = [_not_testable(e) for e in family]
    tested = [e for e, h in zip(family, hurdles) if not h]
    raw = [max(part.effect.p for part in e.parts) for e in tested]
    adjusted = dict(zip([e.claim for e in tested], holm(raw) if raw else ()))
    return [_outside(e, h) if h else _verdict(e, float(adjusted[e.claim])) for e, h in zip(family, hurdles)]


def verdict(evidence: Evidence) -> Verdict:
    """Return the verdict on a claim that is a family of its own."""
    return judge([evidence])[0]


def _not_testable(e: Evidence) -> str:
    if not e.margin > 0:
        raise EvaluationError(f"claim {e.claim}: the margin must be above 0, got {e.margin}")
    if e.scope.kind == "computation":
        raise EvaluationError(f"claim {e.claim}: a fact of computation is settled by `settle`, not by intervals")
    settings = [p.setting for p in e.parts]
    if len(set(settings)) != len(settings):
        raise EvaluationError(f"claim {e.claim}: a setting is given twice in {settings}")
    if not e.parts:
        return "no run bears on it"
    if e.about == "corpus" and e.scope.kind == "world":
        return "a claim about a corpus is not settled on a world"
    if any(p.effect.n_seeds < 2 for p in e.parts):
        return "fewer than two seeds"
    if e.scope.kind == "world":
        absent = [s for s in WORLD_SETTINGS if s not in settings]
        if absent:
            return f"the world's setting {', '.join(absent)} was not run"
        if any((p.n_items or 0) < WORLD_ITEMS for p in e.parts):
            return f"a world is scored on at least {WORLD_ITEMS:,} test items"
    return ""


def _outside(e: Evidence, why: str) -> Verdict:
    return Verdict(e.claim, "not testable here", str(e.scope), None, None, None, None, None, e.margin, why)


def _verdict(e: Evidence, p: float) -> Verdict:
    status, reason = _status(e, p)
    head = next((x for x in e.parts if x.setting == "headline"), e.parts[0]).effect
    mde = max(x.effect.mde for x in e.parts)
    seeds = min(x.effect.n_seeds for x in e.parts)
    return Verdict(
        e.claim, status, str(e.scope), head.estimate, head.interval95, p, seeds, mde, e.margin, reason
    )  # fmt: skip


def _status(e: Evidence, p: float) -> tuple[Status, str]:
    above = [x.setting for x in e.parts if x.effect.above_zero]
    below = [x.setting for x in e.parts if x.effect.below(e.margin)]
    everywhere_above, everywhere_below = len(above) == len(e.parts), len(below) == len(e.parts)
    world = e.scope.kind == "world"
    supported = everywhere_above and p <= ALPHA
    fault = _control_fault(e, negative=bool(above), positive=bool(below)) if world else ""
    if supported and everywhere_below:
        status, reason = "mixed", f"an effect above 0, yet below the margin {e.margin:g}"
    elif supported:
        status, reason = "supported", "the 95 % interval lies above 0 after Holm"
    elif everywhere_below:
        status, reason = "refuted", f"the 90 % interval lies below the margin {e.margin:g}"
    elif set(above) - set(below) and set(below) - set(above):
        status, reason = "mixed", f"above 0 in {', '.join(above)}; below the margin in {', '.join(below)}"
    else:
        return "unresolved", _why_unresolved(e, p, above, below)
    if fault:
        return "unresolved", f"{fault}; without it: {status}"
    return status, reason  # type: ignore[return-value]


def _control_fault(e: Evidence, *, negative: bool, positive: bool) -> str:
    """Return what is wrong with the controls that this outcome leans on, or nothing."""
    for x in e.parts:
        if positive and x.effect.below(e.margin):
            if x.positive_control is None:
                return f"no positive control in setting {x.setting}"
            if not x.positive_control.above_zero:
                return (
                    f"the positive control does not win in setting {x.setting}, so it could not have shown the effect"
                )
        if negative and x.effect.above_zero:
            if x.negative_control is None:
                return f"no negative control in setting {x.setting}"
            if x.negative_control.above_zero:
                return (
                    f"the negative control wins in setting {x.setting}, so the gain does not need the mechanism's input"
                )
    return ""


def _why_unresolved(e: Evidence, p: float, above: Sequence[str], below: Sequence[str]) -> str:
    if len(above) == len(e.parts):
        return f"above 0, but not after Holm (p = {p:.3g})"
    neither = [x.setting for x in e.parts if x.setting not in {*above, *below}]
    sides = [
        f"{what} in {', '.join(where)}" if len(e.parts) > 1 else what
        for what, where in (
            ("above 0", above),
            (f"below the margin {e.margin:g}", below),
            (f"neither above 0 nor below the margin {e.margin:g}", neither),
        )
        if where
    ]
    mde = max(x.effect.mde for x in e.parts)
    return "; ".join([*sides, f"these runs detect {mde:.3g}" + (" at best: more seeds" if mde > e.margin else "")])
