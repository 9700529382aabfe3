"""Scalers see the observed steps of the training split and nothing else."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import QuantileTransformer

from affectcore.data.schema import AffectData, Selection, Task
from affectcore.data.transform import gaussianise, pool, standardise, standardise_within
from affectcore.errors import ConfigError, DataError

TEST = Selection("fixed")


@pytest.fixture
def data() -> AffectData:
    r = np.random.default_rng(0)
    n, t = 40, 4
    lengths = r.integers(1, t + 1, n)
    observed = (np.arange(t) < lengths[:, None]) & (r.random((n, t)) < 0.8)
    observed[:2, 0] = True
    x = {"text": r.gamma(2.0, 3.0, (n, t, 3)), "audio": r.normal(5, 2, (n, 1, 2))}
    x["text"][:, :, 2] = 7.0
    x["text"][30:] += 100.0  # the test rows lie elsewhere
    rows = {"train": np.arange(20), "valid": np.arange(20, 30), "test": np.arange(30, 40)}
    y = r.integers(0, 2, n)
    return AffectData(
        "toy", Task("single_label", ("a", "b")), x, y, rows, lengths={"text": lengths}, observed={"text": observed},
        group=np.arange(n) // 8,
    )  # fmt: skip


def seen(data: AffectData, m: str, split: str) -> np.ndarray:
    b = data.split(split, TEST)
    return b.features[m][b.observed[m]].double().numpy()


def test_standardise_uses_the_observed_training_steps_alone(data: AffectData) -> None:
    new = standardise(data)
    raw = seen(data, "text", "train")
    mean, sd = raw.mean(0), np.where(raw.std(0) > 1e-6, raw.std(0), 1)
    for split in ("train", "valid", "test"):
        np.testing.assert_allclose(seen(new, "text", split), (seen(data, "text", split) - mean) / sd, rtol=1e-5)
    assert seen(new, "text", "test")[:, 0].mean() > 10
    assert (seen(new, "text", "train")[:, 2] == 0).all()  # constant in training: only centred


def test_unobserved_steps_and_padding_stay_zero(data: AffectData) -> None:
    for new in (standardise(data), gaussianise(data), standardise_within(data)):
        b = new._all
        assert not b.features["text"][~b.observed["text"]].any()


def test_gaussianise_is_scikit_learns_transformer_fitted_on_train(data: AffectData) -> None:
    q = QuantileTransformer(n_quantiles=20, output_distribution="normal").fit(seen(data, "text", "train"))
    new = gaussianise(data, n_quantiles=20)
    for split in ("train", "valid", "test"):
        np.testing.assert_allclose(seen(new, "text", split), q.transform(seen(data, "text", split)), atol=1e-5)


def test_scaling_one_modality_leaves_the_others(data: AffectData) -> None:
    new = standardise(data, ["audio"])
    assert torch.equal(new._all.features["text"], data._all.features["text"])
    assert not torch.equal(new._all.features["audio"], data._all.features["audio"])
    assert "audio standardised" in new.notes[-1]


def test_test_values_do_not_move_the_scaler(data: AffectData) -> None:
    b = data._all
    moved = data.map_features({"text": lambda x: torch.where((b.index >= 30)[:, None, None], x * 9, x)})
    for f in (standardise, gaussianise):
        np.testing.assert_array_equal(seen(f(data), "text", "train"), seen(f(moved), "text", "train"))


def test_within_a_group_every_feature_is_standard(data: AffectData) -> None:
    b = standardise_within(data)._all
    for g in b.group.unique():
        v = b.features["text"][b.observed["text"] & (b.group == g)[:, None]].double()
        np.testing.assert_allclose(v.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(v.std(0, unbiased=False)[:2], 1, atol=1e-4)


def test_pool_is_the_mean_of_the_observed_steps(data: AffectData) -> None:
    b, p = data._all, pool(data)._all
    for i in range(len(b)):
        steps = b.features["text"][i][b.observed["text"][i]]
        assert bool(p.observed["text"][i, 0]) == (len(steps) > 0)
        expected = steps.mean(0) if len(steps) else torch.zeros(3)
        torch.testing.assert_close(p.features["text"][i, 0], expected)


def test_what_cannot_be_fitted_is_one_line(data: AffectData) -> None:
    with pytest.raises(ConfigError, match="toy: modality 'video' is unknown"):
        standardise(data, ["video"])
    with pytest.raises(ConfigError, match="'train'"):
        standardise(data.with_splits({"test": np.arange(3)}))
    hidden = data.with_splits({"train": np.array([0])})
    with pytest.raises(DataError, match="toy: audio has 1 observed steps"):
        gaussianise(hidden, ["audio"])
    with pytest.raises(ConfigError, match="n_quantiles=1"):
        gaussianise(data, n_quantiles=1)
