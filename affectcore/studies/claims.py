"""The claims ledger: claims.toml says before the runs what is claimed and how it is tested; the verdict is computed.

    paper = "cmir"

    [[claim]]
    id = "C7"
    statement = "what the paper says, in our words"
    source = "Table 3"
    paper_value = "+2.1 points"        # as printed; text or a number
    paper_effect = 0.021               # in the metric's unit, in the claim's direction: the margin is half of it ...
    margin = 0.01                      # ... unless one is given
    test = "c7"                        # c7(claim, results) -> Evidence, Fact or a list of them, in evidence.py
                                       # beside the study.py, or in that itself
    falsifier = "what would refute it"
    family = "main"                    # claims corrected together by Holm
    about = "mechanism"                # or "corpus"
    scope = ["world: imbalance", "corpus: cmu_mosei_video"]
    controls = ["oracle environments win", "shuffled environments do not"]

A claim that no data here can bear on has `not_testable = "why"` for `test`; one whose runs are missing is "open".
"""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.verdict import Evidence, Fact, Verdict, default_margin, judge, settle
from affectcore.studies.results import best_profile, finished, load_records, load_results
from affectcore.studies.spec import Study
from affectcore.studies.store import RunRecord, Store, refusals


@dataclass(frozen=True)
class Claim:
    """One claim as registered; the head of this file says what the fields mean. A fact of computation has no margin."""

    paper: str
    id: str
    statement: str
    source: str
    paper_value: str | float
    falsifier: str
    family: str
    scope: tuple[str, ...]
    test: str = ""
    not_testable: str = ""
    paper_effect: float | None = None
    margin: float | None = None
    about: Literal["corpus", "mechanism"] = "mechanism"
    controls: tuple[str, ...] = ()

    @property
    def least(self) -> float:
        """The margin of the verdict. Raises ConfigError if neither margin nor paper_effect is registered."""
        if self.margin is not None:
            return self.margin
        if self.paper_effect is None:
            raise ConfigError(f"claim {self.id}: an effect needs margin or paper_effect in claims.toml")
        return default_margin(self.paper_effect)


class Results:
    """A study's table and predictions of one profile, read when a test first asks for them."""

    def __init__(self, study: Study, profile: str = "committed", store: Store | None = None) -> None:
        self.study, self.profile, self.store = study, profile, store

    @cached_property
    def _both(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return load_results(self.study, self.profile, self.store)

    @property
    def table(self) -> pd.DataFrame:
        """See `store.table`. Raises StoreError if runs are missing: the claim is then open."""
        return self._both[0]

    @cached_property
    def records(self) -> list[RunRecord]:
        """The records themselves, for curves and what an executor adds. Raises StoreError if runs are missing."""
        if self.profile == "committed":
            return load_records(self.study, best_profile(self.study))
        specs = self.study.specs(self.profile)
        return finished(self.study, self.profile, specs, self.store or Store())

    @property
    def predictions(self) -> pd.DataFrame:
        """See `load_results`. Raises StoreError if runs are missing: the claim is then open."""
        return self._both[1]


@dataclass(frozen=True)
class Row:
    """One line of the ledger: a claim on one scope. These are the fields of `affectcore claims --format json`."""

    paper: str
    id: str
    status: str
    scope: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    seeds: int | None = None
    mde: float | None = None
    margin: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; what is not defined (NaN) is null."""
        content = asdict(self)
        content["interval"] = None if self.interval is None else [_number(x) for x in self.interval]
        return {k: _number(v) for k, v in content.items()}


def _number(x: Any) -> Any:
    return None if isinstance(x, float) and math.isnan(x) else x


def load_claims(file: Path) -> list[Claim]:
    """Return the claims of a claims.toml. Raises ConfigError naming the file, the claim and the field."""
    with refusals(f"{_name(file)}: cannot be read"):
        text = file.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{_name(file)}: {e}") from e
    entries, paper = content.get("claim"), content.get("paper")
    if set(content) != {"paper", "claim"} or not isinstance(paper, str) or not isinstance(entries, list) or not entries:
        raise ConfigError(f'{_name(file)}: it must hold paper = "..." and one [[claim]] or more, nothing else')
    claims = [_claim(f"{_name(file)} claim {i}", paper, e) for i, e in enumerate(entries, 1)]
    ids = [c.id for c in claims]
    for c in claims:
        if ids.count(c.id) > 1:
            raise ConfigError(f"{_name(file)}: id {c.id!r} is given twice")
    return claims


_TEXT = ("id", "statement", "source", "falsifier", "family", "test", "not_testable")


def _claim(where: str, paper: str, entry: Mapping[str, Any]) -> Claim:
    where = f"{where} ({entry['id']})" if isinstance(entry.get("id"), str) else where
    known = [f.name for f in fields(Claim) if f.name != "paper"]
    for name in entry:
        if name not in known:
            raise ConfigError(f"{where}: field {name!r} is unknown: use {', '.join(known)}")
    for name in ("id", "statement", "source", "paper_value", "falsifier", "family", "scope"):
        if name not in entry:
            raise ConfigError(f"{where}: field {name!r} is missing")

    def need(name: str, ok: bool, rule: str) -> None:
        if name in entry and not ok:
            raise ConfigError(f"{where}: {name} = {entry[name]!r} must be {rule}")

    def positive(x: object) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < math.inf

    def texts(x: object) -> bool:
        return isinstance(x, list) and bool(x) and all(isinstance(t, str) and t.strip() for t in x)

    for name in _TEXT:
        need(name, isinstance(entry.get(name), str) and bool(entry[name].strip()), "a text")
    value = entry["paper_value"]
    need("paper_value", isinstance(value, str | int | float) and not isinstance(value, bool), "a text or a number")
    need("margin", positive(entry.get("margin")), "a number above 0")
    need("paper_effect", positive(entry.get("paper_effect")), "a number above 0, in the claim's direction")
    need("about", entry.get("about") in ("corpus", "mechanism"), '"corpus" or "mechanism"')
    need("scope", texts(entry["scope"]), "a list of texts")
    need("controls", texts(entry.get("controls")), "a list of texts")
    kinds = ("corpus: ", "world: ")
    need("scope", all(s == "computation" or s.startswith(kinds) for s in entry["scope"]),
         '"computation", "corpus: NAME" or "world: NAME"')  # fmt: skip
    if ("test" in entry) == ("not_testable" in entry):
        raise ConfigError(f"{where}: give either test, a function in study.py, or not_testable, the reason")
    lists = {k: tuple(entry[k]) for k in ("scope", "controls") if k in entry}
    return Claim(**{"paper": paper, **entry, **lists})


def ledger(claims: Sequence[Claim], module: ModuleType, results: Results) -> list[Row]:
    """Return the verdicts: one row per claim and scope, in the order of the claims.

    module: the one with the test functions. Holm corrects over the claims of a family, scopes counted apart.
    Raises ConfigError if a test is absent, or returns evidence for another claim, margin or scope than registered.
    """
    rows: dict[str, list[Row]] = {c.id: [] for c in claims}
    families: dict[str, list[tuple[Claim, Evidence]]] = {}
    for c in claims:
        if c.not_testable:
            rows[c.id] += [Row(c.paper, c.id, "not testable here", s, reason=c.not_testable) for s in c.scope]
            continue
        try:
            found = _test(c, module)(c, results)
        except StoreError as absent:
            rows[c.id] += [Row(c.paper, c.id, "open", s, reason=str(absent)) for s in c.scope]
            continue
        evidence = [found] if isinstance(found, Evidence | Fact) else list(found)
        seen = []
        for e in evidence:
            seen.append("computation" if isinstance(e, Fact) else str(e.scope))
            _check(c, e, seen[-1])
            if isinstance(e, Fact):
                rows[c.id].append(_row(c, settle(e)))
            else:
                families.setdefault(c.family, []).append((c, e))
        missing = [s for s in c.scope if s not in seen]
        rows[c.id] += [
            Row(c.paper, c.id, "open", s, reason="its test returned no evidence on this scope") for s in missing
        ]
    for family in families.values():
        # the same claim on two scopes is two hypotheses: their names must differ for the family's correction
        named = [replace(e, claim=f"{c.id} on {e.scope}") for c, e in family]
        for (c, _), verdict in zip(family, judge(named)):
            rows[c.id].append(_row(c, verdict))
    return [r for c in claims for r in sorted(rows[c.id], key=lambda r: c.scope.index(r.scope))]


def study_ledger(name: str, profile: str = "committed", store: Store | None = None) -> list[Row]:
    """Return the ledger of a study of the package, [] if it registers no claims."""
    from affectcore.studies.runner import find_study

    return results_ledger(Results(find_study(name), profile, store))


def study_claims(name: str) -> list[Claim]:
    """Return the claims that a study of the package registers, [] if none."""
    file = Path(__file__).parent / name / "claims.toml"
    return load_claims(file) if file.is_file() else []


def results_ledger(results: Results) -> list[Row]:
    """Return the ledger of the results of a study of the package, [] if it registers no claims."""
    name = results.study.name
    claims = study_claims(name)
    room = "evidence" if (Path(__file__).parent / name / "evidence.py").is_file() else "study"
    return ledger(claims, import_module(f"affectcore.studies.{name}.{room}"), results) if claims else []


def _test(c: Claim, module: ModuleType) -> Callable[[Claim, Results], Any]:
    test: Callable[[Claim, Results], Any] | None = getattr(module, c.test, None)
    if not callable(test):
        raise ConfigError(f"claim {c.id}: test {c.test!r} is no function of {module.__name__}")
    return test


def _check(c: Claim, e: Evidence | Fact, scope: str) -> None:
    if e.claim != c.id or scope not in c.scope:
        raise ConfigError(f"claim {c.id}: its test returned evidence on {e.claim} ({scope}), registered: {c.scope}")
    if isinstance(e, Evidence) and (e.margin != c.least or e.about != c.about):
        raise ConfigError(
            f"claim {c.id}: its test used margin {e.margin:g}, {e.about}; registered: {c.least:g}, {c.about}"
        )


def _row(c: Claim, v: Verdict) -> Row:
    return Row(c.paper, c.id, v.status, v.scope, v.estimate, v.interval, v.p, v.seeds, v.mde, v.margin, v.reason)


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
