"""What LDDU's executor looks at: ranks and areas against SciPy and scikit-learn, planted latents, gates by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from affectcore.data.worlds.ambiguity import LEVELS
from affectcore.errors import ConfigError
from affectcore.studies import execute
from affectcore.studies.lddu import diagnose as d
from affectcore.studies.lddu.study import STUDY
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec


def spec(arm: str, *look: str) -> RunSpec:
    """The first run of an arm in the smoke profile, asked for these diagnoses."""
    found = next(s for s in STUDY.specs("smoke", [0]) if s.arm == arm)
    return replace(found, options={"diagnose": list(look)}, recipe_overrides={**found.recipe_overrides, "epochs": 1})


def run(arm: str, *look: str) -> Outcome:
    out = d.train_and_diagnose([spec(arm, *look)])[0]
    assert isinstance(out, Outcome)
    return out


EVERY = ("spread", "draws", "latent", "gate", "corruption", "dropout", "intensity", "posterior")


@pytest.fixture(scope="module")
def lddu() -> Outcome:
    return run("lddu", *EVERY)


# --- formulas --------------------------------------------------------------------------------------------------------


def test_correlation_is_spearman_s_column_by_column() -> None:
    g = np.random.default_rng(0)
    a, b = g.normal(size=(2, 50, 3)).round(1)  # with ties
    b += 0.5 * a
    each = [spearmanr(a[:, j], b[:, j]).statistic for j in range(3)]
    assert d.correlation(a, b) == pytest.approx(np.mean(each))
    assert d.correlation(a[:, 0], b[:, 0]) == pytest.approx(each[0])
    a[:, 1] = 1.0  # not defined for a column that does not vary
    assert d.correlation(a, b) == pytest.approx(np.mean([each[0], each[2]]))
    assert np.isnan(d.correlation(np.ones(9), np.arange(9.0)))


def test_a_partial_correlation_leaves_out_what_a_third_explains() -> None:
    g = np.random.default_rng(1)
    z = g.normal(size=4000)
    a, b = z + g.normal(size=4000), z + g.normal(size=4000)
    assert d.correlation(a, b) > 0.4
    assert abs(d.correlation(a, b, z)) < 0.05
    r = np.corrcoef(np.argsort(np.argsort([a, b, z])))
    by_hand = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert d.correlation(a, b, z) == pytest.approx(by_hand)


def test_area_is_scikit_learn_s() -> None:
    g = np.random.default_rng(2)
    s, y = g.normal(size=(40, 3)).round(1), g.random((40, 3)) < 0.3
    assert d.area(s, y) == pytest.approx(np.mean([roc_auc_score(y[:, j], s[:, j]) for j in range(3)]))
    y[:, 0] = False
    assert d.area(s, y) == pytest.approx(np.mean([roc_auc_score(y[:, j], s[:, j]) for j in (1, 2)]))


def test_entropy_is_in_bits() -> None:
    assert d.entropy(np.array([0.5, 0.0, 1.0, 0.25])) == pytest.approx([1, 0, 0, 0.811278], abs=1e-6)


def test_deciles_hold_the_mean_error_from_the_smallest_up() -> None:
    x = np.arange(20.0)[::-1, None]
    assert d._deciles(x, np.arange(20.0)[:, None]) == pytest.approx(np.arange(20.0)[::-1].reshape(10, 2).mean(1))


@pytest.mark.parametrize(("apart", "gap"), [(0.0, 0.0), (5.0, 5.0)])
def test_latents_that_part_by_modality_are_seen_to(apart: float, gap: float) -> None:
    g = np.random.default_rng(3)
    y = np.eye(6)[np.arange(300) % 6]
    row = np.zeros((300, 3, 6, 8))
    row[..., :6] = np.eye(6)  # emotions lie at distance sqrt(2), modalities at `apart` sqrt(2)
    row[:, :, :, 6:] = apart * np.array([[0, 0], [1, 1], [2, 2]])[:, None]
    found = d.latent({"row": row + 0.01 * g.normal(size=row.shape)}, y, 1, 3)
    assert found["gap"] == pytest.approx(gap * 4 / 3, abs=0.01)  # mean of one, one and two steps
    assert (found["silhouette"]["modality"] > 0.5) == (apart > 0)
    assert found["silhouette"]["both"] > (0.9 if apart else -1)
    assert found["silhouette"]["centred"] < 0.05
    assert abs(found["silhouette"]["shuffled"]) < 0.1
    assert "map" not in found  # the first seed's alone


# --- a trained model -------------------------------------------------------------------------------------------------


def test_everything_asked_for_is_there_and_plain(lddu: Outcome) -> None:
    assert set(EVERY) <= set(lddu.extra)
    assert set(lddu.extra["spread"]["rho"]) == {"u", "entropy", "given", "shuffled", "posterior", "scale"}
    assert np.shape(lddu.extra["spread"]["noise"]) == (3, 3)
    assert len(lddu.extra["latent"]["map"]["xy"]) == len(lddu.extra["latent"]["map"]["emotion"])
    execute.plain(lddu.extra, "extra")


def test_hits_are_those_of_micro_f1(lddu: Outcome) -> None:
    n, f1 = lddu.extra["draws"], lddu.metrics["test"]["clean"]["micro_f1"]
    assert 2 * n["hits"][0] / (n["predicted"][0] + n["present"][0]) == pytest.approx(f1)
    assert {len(v) for v in n.values()} == {d.DRAWS + 1}
    assert len(set(n["present"])) > 10  # groups are drawn


def test_arms_share_drawn_groups_on_a_corpus_and_have_their_own_in_a_world(lddu: Outcome) -> None:
    other = run("no_contrast", "draws")
    assert other.extra["draws"]["present"] == lddu.extra["draws"]["present"]
    seed = d.train_and_diagnose([replace(spec("no_contrast", "draws"), seed=1)])[0]
    assert isinstance(seed, Outcome)
    assert seed.extra["draws"]["present"] != lddu.extra["draws"]["present"]


def test_the_gate_as_trained_is_the_info_classifier_s(lddu: Outcome) -> None:
    found = lddu.extra["gate"]["scores"]
    assert found["p"] == pytest.approx(found["as trained"], abs=1e-5)
    assert found["as trained"][0] == pytest.approx(lddu.metrics["test"]["clean"]["micro_f1"])
    assert found["inverted"] != found["p"]
    assert sum(v[0] for v in lddu.extra["gate"]["bins"].values()) == pytest.approx(1, abs=1e-4)


def test_each_corruption_hits_its_modality_alone(lddu: Outcome) -> None:
    found = lddu.extra["corruption"]
    assert len(found) == 1 + 6 * 3
    clean = np.array(found["clean"]["spreads"])
    for i, m in enumerate(("text", "audio", "vision")):
        for kind in ("noise 2", "absent"):
            moved = np.abs(np.array(found[f"{kind} {m}"]["spreads"]) - clean) > 1e-9
            assert moved.tolist() == [j == i for j in range(3)], (kind, m)
        # all test items swap among themselves here: who has which spread changes, not their mean
        assert found[f"swapped {m}"]["spreads"] == pytest.approx(found["clean"]["spreads"], abs=1e-5)
        assert found[f"swapped {m}"]["rho"] != found["clean"]["rho"]
    assert found["noise 2 text"]["scores"] != found["clean"]["scores"]


def test_entropies_of_passes_add_up_and_drop_out_makes_some(lddu: Outcome) -> None:
    said = lddu.extra["dropout"]
    assert said["epistemic"][0] > 0
    assert said["aleatoric"][0] > said["epistemic"][0]
    assert all(len(v) == 3 for v in said.values())


def test_the_posterior_that_knows_more_scores_higher() -> None:
    s = spec("lddu", "posterior")
    sizes = {"train": 48, "valid": 300, "test": 1500}
    big = replace(s, data=replace(s.data, options={**s.data.options, "settings": "hard", "sizes": sizes}))
    found = d.train_and_diagnose([big])[0]
    assert isinstance(found, Outcome)
    assert found.extra["posterior"]["known"] > found.extra["posterior"]["another"]


def test_scores_of_few_and_several_emotions_are_scikit_learn_s() -> None:
    seen: dict[str, Any] = {}

    def keep(f: Any) -> dict[str, Any]:
        test = f.data.split("test", f.selection)
        said, y = d.outputs(f.model, test), test.target.double().numpy()
        seen.update(test=test, said=said, y=y, found=d.by_intensity(test, said, y, 0.3))
        return {}

    execute.train_and_score([spec("ordinal")], inspect=keep)
    y, p, found = seen["y"], seen["said"]["p"], seen["found"]
    rows = y.sum(1) > 1
    assert found["several"] == pytest.approx(f1_score(y[rows], p[rows] >= 0.3, average="micro"))
    assert 0 < found["error"] < 3
    level = seen["test"].extras["intensity"].numpy()
    assert (y[level == 0] == 0).all()
    assert np.isclose(level[..., None], [0.0, *LEVELS]).any(-1).all()


def test_other_models_are_asked_for_what_they_have() -> None:
    out = run("carat", "draws", "spread", "latent")
    assert "draws" in out.extra
    assert "spread" not in out.extra


def test_votes_are_read_against_disagreement_given_the_inputs() -> None:
    g = np.random.default_rng(4)
    share = g.dirichlet(np.ones(6), 30)
    assert d._shannon(np.array([[1, 0], [0.5, 0.5], [2, 2]])) == pytest.approx([0, 1, 1])
    assert d.correlation(d._shannon(share), d._shannon(share)) == pytest.approx(1)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="'depth' is unknown"):
        d.train_and_diagnose([spec("lddu", "depth")])
    with pytest.raises(ConfigError, match="'probe' is unknown"):
        d.train_and_diagnose([replace(spec("lddu"), options={"probe": True})])


def test_looking_changes_no_score(lddu: Outcome) -> None:
    torch.manual_seed(5)
    plain = execute.train_and_score([spec("lddu")])[0]
    assert isinstance(plain, Outcome)
    assert plain.metrics == lddu.metrics
