"""What CmIR's executor measures, on values whose answer is known, and once end to end."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from affectcore.data.schema import Selection
from affectcore.data.worlds import Sizes, make
from affectcore.errors import AffectError, ConfigError
from affectcore.studies.cmir import diagnose
from affectcore.studies.cmir.study import STUDY

R = np.random.default_rng(0)


def test_a_probe_reads_what_is_there_and_no_more() -> None:
    x = R.standard_normal((3000, 4))
    probe, straight = diagnose.Probe(x, 0), diagnose.Probe(x, 0, linear=True)
    assert straight.r2(x[:, :2] @ [1.0, -2.0]) > 0.999
    assert straight.r2(np.abs(x[:, 0])) < 0.02
    assert probe.r2(np.abs(x[:, 0])) > 0.9  # the random features bend
    assert abs(probe.r2(R.standard_normal(3000))) < 0.35  # noise: below 0 by what 300 features overfit
    assert probe.correlation(x[:, 1]) > 0.99
    assert probe.environment((x[:, 2] > 0).astype(int)) > 0.95
    assert probe.environment(R.integers(0, 2, 3000)) == pytest.approx(0.5, abs=0.06)


def test_a_probe_is_scored_on_the_rows_that_it_was_not_fitted_on() -> None:
    x = np.concatenate([np.zeros((50, 2)), np.ones((50, 2))])
    probe = diagnose.Probe(x, 0, fit=60, linear=True)
    assert len(probe.guess(x[:, :1])) == 40


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_mutual_information_of_gaussians(rho: float) -> None:
    x = R.standard_normal((1500, 1))
    y = rho * x + np.sqrt(1 - rho**2) * R.standard_normal((1500, 1))
    assert diagnose.information(x, y) == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.08)


def test_components_have_unit_variance_and_skip_what_does_not_vary() -> None:
    z = R.standard_normal((500, 3)) @ np.diag([5.0, 1.0, 0.0])
    found = diagnose.components(z, 3)
    assert found.std(0) == pytest.approx([1, 1, 0], abs=1e-3)


def test_chow_finds_a_law_that_changes() -> None:
    x, e = R.standard_normal((900, 2)), np.arange(900) % 3
    y = x @ [1.0, 1.0] + R.standard_normal(900)
    assert diagnose.chow(x, y, e) > 0.01
    assert diagnose.chow(x, y + 0.5 * x[:, 0] * (e == 1), e) < 1e-4
    assert diagnose.slope(x[:, 0], 3 * x[:, 0]) == pytest.approx(3)


class Told(torch.nn.Module):
    """Predicts by one true factor of text, read off the features by least squares."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(weights)

    def forward(self, batch: Any, noise: Any) -> Any:
        x = batch.features["text"][:, 0]
        return SimpleNamespace(prediction=torch.cat([x, torch.ones(len(x), 1)], 1) @ self.weights)


@pytest.mark.parametrize("factor", ["causal", "spurious"])
def test_use_says_which_factor_a_prediction_rests_on(factor: str) -> None:
    world = make("environments", 0, replace(make("environments", 0, "headline", Sizes(50, 20, 60)).settings,
                                            mixing="linear"), Sizes(2000, 20, 1000))  # fmt: skip
    train = world.data.split("train")
    x = np.concatenate([train.features["text"][:, 0].numpy(), np.ones((2000, 1))], 1)
    w = np.linalg.lstsq(x, world.known(train)[factor][:, 0, 0], rcond=None)[0]
    fitted: Any = SimpleNamespace(
        spec=SimpleNamespace(seed=0), model=Told(torch.tensor(w, dtype=torch.float32)), data=world.data, world=world,
        selection=Selection("fixed"),
    )  # fmt: skip
    found = diagnose.use(fitted)
    assert found[factor] == pytest.approx(2, abs=0.3)  # twice the variance of a factor
    assert max(v for k, v in found.items() if k != factor) < 1e-4


def run(arm: str, data: str, **options: Any) -> Any:
    (spec,) = (s for s in STUDY.specs("smoke", [0]) if (s.arm, s.data.name) == (arm, data))
    (outcome,) = diagnose.train_and_diagnose([replace(spec, options=options or spec.options)])
    assert not isinstance(outcome, AffectError)
    return outcome


def test_everything_at_once_and_finite() -> None:
    extra = run("cmir", "environments_headline", look=list(diagnose.LOOKS)).extra
    assert {*diagnose.LOOKS, "mse"} <= set(extra)

    def numbers(x: Any) -> list[float]:
        if isinstance(x, dict | list):
            return [n for v in (x.values() if isinstance(x, dict) else x) for n in numbers(v)]
        return [x]

    assert None not in numbers({k: extra[k] for k in diagnose.LOOKS})
    assert set(extra["codes"]) == {"chance", "factors", "raw", "inv", "spu", "both", "gain"}
    assert len(extra["laws"]["virtual"]) == 5
    slopes = extra["laws"]["slopes"]
    assert slopes[0] > slopes[1] + 0.3  # beta .9 and .1


def test_models_are_told_how_many_environments_there_are() -> None:
    assert run("vrex", "environments_easy").extra["config"]["environments"] == 4
    assert run("true_prediction", "environments_headline").extra["config"]["count"] == 2
    assert run("cmir", "environments_easy").extra["config"]["count"] == 4  # K, which is no number of environments


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match="option 'smell' is unknown"):
        run("cmir", "environments_headline", look=["smell"])
    with pytest.raises(ConfigError, match="nothing to look at"):
        run("linear", "environments_headline", look=["use"])
