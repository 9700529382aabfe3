"""Results: what is exported reads back, staleness is seen, verification recomputes; reports on a frozen tiny sweep."""

import json
import lzma
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_sweep.tiny_study import STUDY

from affectcore.errors import ConfigError, StoreError
from affectcore.studies import results as results_module
from affectcore.studies import runner
from affectcore.studies.results import (
    attach_targets,
    best_profile,
    export,
    load_records,
    load_results,
    paired,
    stale,
    verify,
)
from affectcore.studies.runner import run_study
from affectcore.studies.spec import DataSpec
from affectcore.studies.store import Store


def text_of(file: Path) -> str:
    return lzma.decompress(file.read_bytes()).decode()


def rewrite(file: Path, text: str) -> None:
    file.write_bytes(lzma.compress(text.encode()))


FROZEN = Path(__file__).parent / "tiny_sweep" / "results"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    run_study(STUDY, "smoke", store=store, progress=False)
    return store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def frozen(monkeypatch):
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(FROZEN))


def test_the_frozen_sweep_reads_as_it_was_written(frozen):
    table, predictions = load_results(STUDY)
    assert best_profile(STUDY) == "smoke"
    assert len(load_records(STUDY, "smoke")) == 3 * 6 + 2
    means = (
        table.query("split == 'test' and condition == 'clean' and metric == 'accuracy'").groupby("arm")["value"].mean()
    )
    lines = [json.loads(x) for x in text_of(FROZEN / "smoke" / "tiny.jsonl.xz").splitlines()]
    for arm, mean in means.items():  # the same from the bare file
        values = [x["metrics"]["test"]["clean"]["accuracy"] for x in lines if x["spec"]["arm"] == arm]
        assert mean == pytest.approx(np.mean(values))
    assert means["strong"] > means["weak"] + 0.2
    assert set(predictions["arm"]) == {"strong", "weak", "twin"}  # tier 1 alone
    assert set(predictions["condition"]) == {"clean"}  # the deciding condition alone


def test_frozen_predictions_give_the_frozen_metrics(frozen):
    table, predictions = load_results(STUDY)
    both = paired(predictions, "strong", "weak", "stub")
    assert both.seeds == tuple(range(6))
    assert both.a.shape == both.b.shape == (6, 40, 2)
    assert both.target.shape == both.group.shape == (40,)
    assert both.group.tolist() == [i // 4 for i in range(40)]  # numbered anew: the sweep's own groups began at 1000
    want = table.query("arm == 'strong' and split == 'test' and condition == 'clean' and metric == 'accuracy'")
    got = (both.a.argmax(2) == both.target).mean(1)
    np.testing.assert_allclose(got, want.sort_values("seed")["value"])


@pytest.mark.parametrize("column", ["target", "group"])
def test_arms_on_other_items_are_not_paired(frozen, column):
    predictions = load_results(STUDY)[1]
    at = predictions.index[(predictions["arm"] == "weak") & (predictions["seed"] == 3)][0]
    predictions.at[at, column] = predictions.at[at, column][::-1].copy()
    with pytest.raises(StoreError, match="not scored on the same items of stub"):
        paired(predictions, "strong", "weak", "stub")


def test_export_and_the_local_store_say_the_same(store, folder):
    files = export(STUDY, "smoke", store)
    assert sorted(f.name for f in files) == ["tiny.jsonl.xz", "tiny.predictions.parquet"]
    committed, local = load_results(STUDY), load_results(STUDY, "smoke", store)
    key = ["arm", "seed", "split", "condition", "metric"]
    a, b = (x[0].set_index(key).sort_index() for x in (committed, local))
    np.testing.assert_allclose(a["value"], b["value"], rtol=1e-5)
    x, y = (paired(p[1], "strong", "twin", "stub") for p in (committed, local))
    np.testing.assert_array_equal(x.a, y.a)
    np.testing.assert_array_equal(x.target, y.target)
    again = [f.read_bytes() for f in files]
    assert [f.read_bytes() for f in export(STUDY, "smoke", store)] == again  # no diff without a change


def test_exported_files_hold_no_path_host_or_group_id(store, folder):
    records, predictions_file = export(STUDY, "smoke", store)
    text = pd.read_parquet(predictions_file).select_dtypes(["object", "string"]).to_string()  # both are compressed
    for content in (lzma.decompress(records.read_bytes()), text.encode()):
        assert b"strong" in content
        for word in (os.uname().nodename, str(folder), str(Path(__file__).parent), str(store.folder)):
            assert word.encode() not in content
    predictions = load_results(STUDY)[1]
    assert max(g.max() for g in predictions["group"]) < 10


def test_targets_of_a_read_set_stay_out_unless_published(store, folder):
    real = replace(STUDY, data=(replace(STUDY.data[0], source="reader", dataset="cmu_mosi_utt"),))
    run_study(real, "smoke", store=store, progress=False)
    export(real, "smoke", store)
    predictions = load_results(real)[1]
    assert all(t is None for t in predictions["target"])
    with pytest.raises(StoreError, match="the targets of stub are not published"):
        paired(predictions, "strong", "weak", "stub")
    open_study = replace(real, publish_targets=("stub",))
    export(open_study, "smoke", store)
    assert paired(load_results(open_study)[1], "strong", "weak", "stub").target.shape == (40,)


def test_targets_are_read_again_where_the_data_are(tmp_path, store):
    from affectcore.data.readers.own import write_example
    from affectcore.data.schema import Selection
    from affectcore.studies.execute import load

    data = DataSpec("own", "reader", str(write_example(tmp_path / "own")))
    study = replace(STUDY, data=(data,))
    local = load_results(STUDY, "smoke", store)[1]
    hidden = local[local["split"] == "test"].assign(data="own", target=None)
    shown = attach_targets(study, hidden)
    np.testing.assert_array_equal(shown["target"].iloc[0], load(data, 0).split("test", Selection("fixed")).target)
    with pytest.raises(ConfigError, match="data own is a file of this machine; results hold named sets alone"):
        export(study, "smoke", store)


def test_nothing_is_exported_of_an_unfinished_profile(store, folder):
    run_study(STUDY, "standard", [0, 1, 2, 3, 4, 5], store=store, progress=False)
    with pytest.raises(StoreError, match=r"tiny \(standard\): 6 of 24 runs are not in the store"):
        export(STUDY, "standard", store)
    assert not folder.exists()


def test_results_that_grow_too_large_are_refused(store, folder, monkeypatch):
    monkeypatch.setattr(results_module, "SIZE_LIMIT", 3000)
    with pytest.raises(StoreError, match=r"results: .* MB with tiny \(smoke\), limit .*deciding"):
        export(STUDY, "smoke", store)
    assert not folder.exists()


def test_only_deciding_data_and_conditions_are_exported(store, folder):
    first = STUDY.data[0].name
    export(replace(STUDY, deciding=("clean",), deciding_data=(first,)), "smoke", store)
    predictions = load_results(STUDY)[1]
    assert set(predictions["data"]) == {first}
    assert set(predictions["condition"]) == {"clean"}
    with pytest.raises(ConfigError, match="deciding_data 'nowhere' is unknown"):
        replace(STUDY, deciding_data=("nowhere",))


def test_the_best_complete_profile_is_taken(store, folder):
    with pytest.raises(StoreError, match="no complete profile is committed; run `affectcore run tiny --profile smoke`"):
        load_results(STUDY)
    run_study(STUDY, "standard", store=store, progress=False)
    export(STUDY, "smoke", store)
    export(STUDY, "standard", store)
    assert set(load_results(STUDY)[0]["profile"]) == {"standard"}
    file = folder / "standard" / "tiny.jsonl.xz"
    rewrite(file, "".join(text_of(file).splitlines(keepends=True)[:-1]))  # one run less: no longer complete
    assert set(load_results(STUDY)[0]["profile"]) == {"smoke"}


def test_other_profiles_never_read_results(frozen, tmp_path):
    with pytest.raises(StoreError, match=r"tiny \(smoke\): 20 of 20 runs are not in the store"):
        load_results(STUDY, "smoke", Store(tmp_path / "empty"))


@pytest.mark.parametrize("damage", ["{", "[]", '{"spec": 3}'])
def test_a_damaged_line_is_named(store, folder, damage):
    export(STUDY, "smoke", store)
    file = folder / "smoke" / "tiny.jsonl.xz"
    rewrite(file, text_of(file) + damage + "\n")
    with pytest.raises(StoreError, match=r"tiny\.jsonl\.xz line 21: no run record"):
        load_results(STUDY)


def test_a_truncated_file_is_named(store, folder):
    export(STUDY, "smoke", store)
    file = folder / "smoke" / "tiny.jsonl.xz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"tiny\.jsonl\.xz: no run records"):
        load_results(STUDY)


def test_stale_records_are_seen_and_declared_equal_by_verify(store, folder, monkeypatch):
    export(STUDY, "smoke", store)
    assert stale(STUDY) == []
    monkeypatch.setattr(results_module, "sources_hash", lambda spec: f"new code of {spec.arm}")
    assert len(stale(STUDY)) == 20
    assert "the sources it imports have changed" in str(stale(STUDY)[0])
    checks = verify(STUDY, 3, declare=True)
    assert all(c.ok for c in checks)
    assert all(c.difference <= 1e-5 for c in checks)  # what rounding to six digits leaves
    arms = {c.record.spec.arm for c in checks}
    left = {s.record.spec.arm for s in stale(STUDY)}
    assert left == {"strong", "weak", "twin", "sketch"} - arms
    verify(STUDY, 20, declare=True)
    assert stale(STUDY) == []


def test_a_changed_claims_file_makes_records_stale(store, folder, monkeypatch):
    export(STUDY, "smoke", store)
    monkeypatch.setattr(results_module, "claims_hash", lambda study: "other claims")
    assert {s.why for s in stale(STUDY)} == {"its claims.toml has changed"}


def test_a_run_that_left_the_study_is_stale(store, folder):
    export(STUDY, "smoke", store)
    fewer = replace(STUDY, arms=STUDY.arms[1:])
    assert {(s.record.spec.arm, s.why) for s in stale(fewer)} == {("strong", "it is no longer a run of the study")}


def test_verify_tells_what_became_undefined_from_what_is_equal(store, folder):
    r = store.records()[0]
    old = {s: {c: {**m, "accuracy": None} for c, m in x.items()} for s, x in r.metrics.items()}
    check = results_module._check(replace(r, metrics=old), 1e9, "cpu")
    assert (check.ok, check.difference) == (False, float("inf"))


def test_verify_finds_a_number_that_was_changed(store, folder):
    export(STUDY, "smoke", store)
    file = folder / "smoke" / "tiny.jsonl.xz"
    text = text_of(file)
    first = text.splitlines()[0]
    value = re.search(r'"test":{"clean":{"accuracy":([0-9.]+)', first).group(1)
    rewrite(file, text.replace(first, first.replace(f'"accuracy":{value}', '"accuracy":0.1')))
    checks = verify(STUDY, 20)
    assert [c.ok for c in checks].count(False) == 1
    assert "DIFFERS" in str(next(c for c in checks if not c.ok))
    assert len(verify(STUDY, 2, cheap=True)) == 2
    assert sorted(c.record.spec.arm for c in verify(STUDY, 1, arms=True)) == sorted(a.name for a in STUDY.arms)
    for sample in (0, -1):
        with pytest.raises(ConfigError, match="must be 1 or more"):
            verify(STUDY, sample)


def test_claims_files_are_hashed_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "runner.py"))
    assert runner.claims_hash("toy") is None
    (tmp_path / "toy").mkdir()
    file = tmp_path / "toy" / "claims.toml"
    file.write_text('paper = "x"\n')
    first = runner.claims_hash("toy")
    file.write_text('# a remark\npaper   = "x"\n')
    assert runner.claims_hash("toy") == first
    file.write_text('paper = "y"\n')
    assert runner.claims_hash("toy") != first
    file.write_text("paper = \n")
    with pytest.raises(ConfigError, match=r"toy/claims\.toml"):
        runner.claims_hash("toy")
