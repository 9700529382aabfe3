"""Bootstrap draws: paired, pooled over folds, the same after export, and honest about what differs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error

from affectcore.data import stand_in
from affectcore.errors import ConfigError, DataError, StoreError
from affectcore.studies import resampling
from affectcore.studies import results as committed
from affectcore.studies.chapter import on_generated_data, results_for
from affectcore.studies.claims import results_ledger
from affectcore.studies.execute import load
from affectcore.studies.outcome import Predictions
from affectcore.studies.runner import run_specs
from affectcore.studies.spec import Arm, Condition, DataSpec, Profile, Study
from affectcore.studies.store import Store

FOLDS = tuple(
    DataSpec(f"mosei/{k}", "reader", "cmu_mosei_video", {"target": "sentiment"}, resplit={"k": k, "n_folds": 3})
    for k in range(3)
)
WORLD = DataSpec("world", "world", "recovery", {"sizes": {"train": 40, "valid": 20, "test": 300}})
STUDY = Study(
    name="toy",
    question="?",
    arms=(Arm("constant", "constant"), Arm("linear", "linear"), Arm("twin", "linear")),
    data=(*FOLDS, WORLD),
    conditions=(Condition(), Condition("half", "missing/rmm", 0.5)),
    profiles={"smoke": Profile({1: 3})},
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Store]":
    folder = tmp_path_factory.mktemp("generated")
    stand_in.write(folder)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("AFFECTCORE_DATA", str(folder))
        store = Store(folder / "runs")
        assert not run_specs(STUDY.specs("smoke"), store, progress=False).failed
    return folder, store


@pytest.fixture
def made(ran: "tuple[Path, Store]", monkeypatch: pytest.MonkeyPatch) -> resampling.Resampled:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    return resampling.compute(STUDY, "smoke", ran[1], draws=400)


def test_folds_are_pooled_into_one_prediction_per_item(
    made: resampling.Resampled, ran: "tuple[Path, Store]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    target = load(FOLDS[0], 0)._all.target.numpy()
    given = np.full(len(target), np.nan)
    for s in STUDY.specs("smoke"):
        if (s.arm, s.seed) == ("linear", 1) and s.data.name != "world":
            p = ran[1].predictions(s.hash())
            given[p.rows["test"]] = p.scores["test", "clean"]
    found = made.get("linear", "mosei")
    assert found.by_seed[1] == pytest.approx(mean_absolute_error(target, given), rel=1e-6)
    assert (found.n_items, found.n_groups, len(found.draws)) == (40, 40, 400)


def test_differences_are_paired(made: resampling.Resampled) -> None:
    same = made.compare(("linear", "mosei"), ("twin", "mosei"))
    assert (same.estimate, same.interval95) == (0, (0, 0))
    real = made.compare(("linear", "mosei"), ("constant", "mosei"))
    single = made.get("linear", "mosei").interval()
    assert real.estimate == pytest.approx(
        made.get("constant", "mosei").estimate - made.get("linear", "mosei").estimate
    )  # lower errors are better
    assert real.interval95[0] <= real.estimate <= real.interval95[1]
    assert single[0] < made.get("linear", "mosei").estimate < single[1]


def test_a_corpus_with_two_test_parts_has_draws_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: "tuple[Path, Store]"
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    lexical = {"lexical": {"ood": 6, "iid": 5, "valid": 6, "moves": 10}}
    data = (DataSpec("mosi", "reader", "cmu_mosi_utt", lexical), WORLD)
    study = replace(STUDY, data=data, conditions=(Condition(),))
    store = Store(tmp_path)
    assert not run_specs(study.specs("smoke"), store, progress=False).failed
    made = resampling.compute(study, "smoke", store, draws=50)
    assert {k[1] for k in made.rows} == {"mosi", "mosi:test_iid", "world"}
    assert [made.get("linear", d).n_items for d in ("mosi", "mosi:test_iid")] == [6, 5]
    spec = next(s for s in study.specs("smoke") if (s.arm, s.data.name, s.seed) == ("linear", "mosi", 0))
    p = store.predictions(spec.hash())
    by_hand = mean_absolute_error(p.target["test_iid"], p.scores["test_iid", "clean"])
    assert made.get("linear", "mosi:test_iid").by_seed[0] == pytest.approx(by_hand, rel=1e-6)


def test_a_better_model_on_a_world_is_found(made: resampling.Resampled) -> None:
    assert made.compare(("linear", "world"), ("constant", "world")).above_zero
    assert made.compare(("linear", "world"), ("constant", "world"), metric="mae").n_seeds == 3


@pytest.mark.parametrize("key", [("mlp", "mosei"), ("linear", "mosi"), ("linear", "mosei", "dark")])
def test_what_was_not_run_is_named(made: resampling.Resampled, key: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        made.get(*key)


def test_other_items_are_not_compared(made: resampling.Resampled) -> None:
    with pytest.raises(ConfigError, match="not scored on the same items"):
        made.compare(("linear", "mosei"), ("linear", "world"))


def test_export_and_load_give_the_same_numbers(
    made: resampling.Resampled, ran: "tuple[Path, Store]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    with pytest.raises(StoreError, match=r"toy.draws.parquet of profile smoke is not committed"):
        resampling.load(STUDY, "smoke")
    resampling.export(STUDY, "smoke", ran[1])
    again = resampling.load(STUDY, "smoke")
    full = resampling.compute(STUDY, "smoke", ran[1])
    assert again.rows.keys() == full.rows.keys()
    a, b = (
        again.compare(("linear", "mosei"), ("constant", "mosei")),
        full.compare(("linear", "mosei"), ("constant", "mosei")),
    )
    np.testing.assert_allclose([a.estimate, *a.interval95, a.p], [b.estimate, *b.interval95, b.p], rtol=1e-4, atol=1e-6)


def test_runs_on_other_items_are_refused(ran: "tuple[Path, Store]", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    one = {s.hash() for s in STUDY.specs("smoke") if (s.arm, s.data.name, s.seed) == ("twin", "mosei/2", 0)}
    read = Store.predictions

    def shifted(self: Store, run: str) -> Predictions:
        p = read(self, run)
        return replace(p, rows={"test": p.rows["test"] + 1}) if run in one else p

    monkeypatch.setattr(Store, "predictions", shifted)
    with pytest.raises(StoreError, match="twin on mosei was not scored on the same items"):
        resampling.compute(STUDY, "smoke", ran[1])


def test_missing_runs_are_named(tmp_path: Path, ran: "tuple[Path, Store]", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    with pytest.raises(StoreError, match="36 of 36 runs are not in the store"):
        resampling.compute(STUDY, "smoke", Store(tmp_path))


def test_a_chapter_without_data_runs_on_generated_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", "")
    small = replace(STUDY, data=(FOLDS[0], WORLD), arms=STUDY.arms[:2])
    found = results_for(small, "smoke", seeds=2)
    assert set(found.table["seed"]) == {0, 1}
    assert on_generated_data(found)  # never mistaken for runs on real data
    assert found.store is not None
    assert found.store.hashes()
    assert Store().hashes() == []
    again = results_for(small, "smoke", seeds=2)  # the next chapter finds them
    assert {r.finished for r in again.records} == {r.finished for r in found.records}
    assert results_ledger(found) == []
    with pytest.raises(DataError, match="cmu_mosei_video is not here; `affectcore data fetch"):
        results_for(replace(small, profiles={"standard": Profile({1: 2})}), "standard")
    with pytest.raises(StoreError, match="no-such-model"):
        results_for(replace(small, arms=(Arm("broken", "no-such-model"),)), "smoke")


def toy(arms: tuple[Arm, ...], seeds: dict[int, int], **options: object) -> Study:
    """Arms on a world of classes, small enough to run in a test."""
    data = DataSpec("world", "world", "imbalance", {"sizes": {"train": 60, "valid": 40, "test": 80}, **options})
    return Study(name="toy", question="?", arms=arms, data=(data,), profiles={"smoke": Profile(seeds)})


def test_draws_that_make_results_too_large_are_refused(
    ran: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr("affectcore.studies.results.SIZE_LIMIT", 3000)
    with pytest.raises(StoreError, match=r"results: .* MB with draws of toy \(smoke\), limit .*Study.drawn"):
        resampling.export(STUDY, "smoke", ran[1])
    assert not (tmp_path / "results").exists()


def test_where_nothing_is_drawn_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    monkeypatch.setattr(resampling, "compute", lambda *_: resampling.Resampled({}, "smoke"))
    assert resampling.export(STUDY, "smoke") == ()
    assert not any(tmp_path.iterdir())


def test_the_default_metric_is_the_same_before_and_after_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    study, store = toy((Arm("constant", "constant"),), {1: 2}), Store(tmp_path / "runs")
    assert not run_specs(study.specs("smoke"), store, progress=False).failed
    resampling.export(study, "smoke", store)
    metrics = [
        x.get("constant", "world").metric
        for x in (resampling.compute(study, "smoke", store), resampling.load(study, "smoke"))
    ]
    assert metrics == ["balanced_accuracy"] * 2  # by name "accuracy" would come first


def test_an_arm_of_a_single_fold_is_left_out(
    made: resampling.Resampled, ran: "tuple[Path, Store]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTCORE_DATA", str(ran[0]))
    part = Arm("first", "constant", data=("mosei/0",))
    study = replace(STUDY, arms=(part, *STUDY.arms))
    mine = [s for s in study.specs("smoke") if s.arm == part.name]
    assert not run_specs(mine, ran[1], progress=False).failed
    found = resampling.compute(study, "smoke", ran[1], draws=400)
    assert set(found.rows) == set(made.rows)
    pair = ("linear", "mosei"), ("constant", "mosei")
    assert found.compare(*pair) == made.compare(*pair)


def test_an_arm_of_another_tier_is_drawn_over_its_own_seeds(tmp_path: Path) -> None:
    arms = (Arm("constant", "constant", tier=2), Arm("linear", "linear"), Arm("twin", "linear", tier=2))
    study, store = toy(arms, {1: 3, 2: 2}), Store(tmp_path)
    assert not run_specs(study.specs("smoke"), store, progress=False).failed
    made = resampling.compute(study, "smoke", store)
    assert {a: len(made.get(a, "world").by_seed) for a in ("constant", "linear", "twin")} == {
        "constant": 2, "linear": 3, "twin": 2,
    }  # fmt: skip
    assert made.compare(("twin", "world"), ("constant", "world")).n_seeds == 2
    np.testing.assert_array_equal(made.get("twin", "world").by_seed, made.get("linear", "world").by_seed[:2])
    with pytest.raises(ConfigError, match="same items and seeds"):
        made.compare(("linear", "world"), ("constant", "world"))


def test_equally_many_other_items_are_not_compared(made: resampling.Resampled) -> None:
    other = replace(made.get("linear", "mosei"), items="other")
    mixed = resampling.Resampled({**made.rows, ("linear", "other", "clean", "mae"): other}, "smoke")
    with pytest.raises(ConfigError, match="same items and seeds"):
        mixed.compare(("linear", "mosei"), ("linear", "other"))


def test_draws_of_other_runs_than_the_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    store = Store(tmp_path / "runs")
    old, new = (toy((Arm("constant", "constant"),), {1: 2}, settings=s) for s in ("easy", "hard"))
    for study in (old, new):
        assert not run_specs(study.specs("smoke"), store, progress=False).failed
    resampling.export(old, "smoke", store)
    committed.export(old, "smoke", store)
    assert resampling.load(old, "smoke").rows
    file = resampling.file_of(old, "smoke")
    before = file.read_bytes()
    pd.read_parquet(file).drop(columns=["runs", "items"]).to_parquet(file)  # as the first version wrote it
    assert resampling.load(old, "smoke").rows
    file.write_bytes(before)
    committed.export(new, "smoke", store)  # and then the draws fail, or are forgotten
    with pytest.raises(StoreError, match=r"toy.draws.parquet is of other runs than the records"):
        resampling.load(new, "smoke")


def scored(seed: int, target: np.ndarray, group: np.ndarray, **scores: np.ndarray) -> resampling._Scored:
    return resampling._Scored(seed, target, group, {(arm, "clean"): s for arm, s in scores.items()})


def test_arms_share_the_drawn_seeds_and_groups_and_seeds_the_groups() -> None:
    r = np.random.default_rng(0)
    target, group = np.zeros(60), np.repeat(np.arange(12), 5)
    by_seed, by_group = r.normal(3, 1, 6), np.repeat(r.normal(0, 1, 12), 5)
    given = [scored(s, target, group, a=by_seed[s] + by_group, b=by_seed[s] + by_group + 1) for s in range(6)]
    made = resampling._draws("toy", given, 300)
    a, b = (made[arm, "clean", "mae"].draws for arm in "ab")
    assert a.std() > 0.1  # both levels move an arm alone ...
    np.testing.assert_allclose(b - a, 1)  # ... and cancel in the difference: same seeds, same groups
    alone = [scored(s, target, group, a=10 + by_group) for s in range(6)]
    spread = resampling._draws("toy", alone, 2_000)["a", "clean", "mae"].draws.std()
    # seeds that share items share their draw, so more seeds do not average the groups' luck away
    assert spread == pytest.approx(by_group.std() / np.sqrt(12), rel=0.1)
    worlds = [scored(s, r.permutation(np.linspace(0, 1e-6, 60)), group, a=10 + by_group) for s in range(6)]
    apart = resampling._draws("toy", worlds, 2_000)["a", "clean", "mae"].draws.std()
    # every world has a draw of its own; of 6 seeds drawn with replacement the squared shares sum to (2 - 1 / 6) / 6
    assert apart == pytest.approx(by_group.std() / np.sqrt(12) * np.sqrt((2 - 1 / 6) / 6), rel=0.1)
