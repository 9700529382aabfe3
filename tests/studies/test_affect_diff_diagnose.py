"""The diagnoses of the Affect-Diff study against oracles, and the executor on tiny runs."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from affectcore.data import readers
from affectcore.data.schema import AffectData, Selection, Task
from affectcore.errors import ConfigError
from affectcore.models.affect_diff import AffectDiff, Config
from affectcore.models.contract import Shape
from affectcore.nn import diffusion
from affectcore.nn.acyclicity import acyclicity
from affectcore.nn.noise import Tape
from affectcore.studies import execute
from affectcore.studies.affect_diff import diagnose, prior
from affectcore.studies.outcome import Outcome
from affectcore.studies.sources import sources_hash
from affectcore.studies.spec import CLEAN, Condition, DataSpec, RunSpec

torch.set_num_threads(1)
SMALL = {
    "width": 8, "heads": 2, "layers": 1, "latent": 8, "unet_width": 8, "diffusion_steps": 40, "sampling_steps": 5,
    "diffusion_start": 0, "diffusion_epochs": 1, "kl_epochs": 2,
}  # fmt: skip
RECIPE = {"epochs": 2, "batch_size": 32, "patience": None, "metric": "balanced_accuracy"}
ALL = {"weights": "root", "diagnose": ["graph", "latent", "reconstruction", "prior", "joint"], "probe": True}
WORLD = DataSpec("w", "world", "imbalance", {"settings": "easy", "sizes": {"train": 96, "valid": 80, "test": 840}})
N, C, M = 180, 3, 2


def made(kind: str = "single_label") -> AffectData:
    r = np.random.default_rng(1)
    y = r.choice(C, N, p=(0.6, 0.3, 0.1))
    x = {m: np.eye(C)[y][:, None] * 2 + r.normal(size=(N, 5, C)) for m in ("text", "audio")}
    target = y if kind == "single_label" else (np.eye(C)[y] + (r.random((N, C)) < 0.2) > 0).astype(np.float32)
    task = Task(kind, ("a", "b", "c"))  # type: ignore[arg-type]
    splits = dict(zip(("train", "valid", "test"), np.split(np.arange(N), (90, 130))))
    return AffectData("made", task, x, target, splits, lengths={"text": r.integers(1, 6, N)})


@pytest.fixture(autouse=True)
def _reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(readers, "load", lambda name, **options: made(name))
    execute._cached.cache_clear()
    yield
    execute._cached.cache_clear()


def spec(data: DataSpec | str = WORLD, options: Any = ALL, seed: int = 0, **changes: Any) -> RunSpec:
    if isinstance(data, str):
        data = DataSpec(data, "reader", data)
    given = {"model": "affect_diff", "overrides": SMALL, "recipe": "smoke", "recipe_overrides": RECIPE} | changes
    home = "affectcore.studies.affect_diff.diagnose:train_and_diagnose"
    return RunSpec("affect_diff", "a", "smoke", seed, data, options=options, execute=home, **given)


def run(*specs: RunSpec) -> list[Outcome]:
    outcomes = diagnose.train_and_diagnose(specs)
    assert all(isinstance(o, Outcome) for o in outcomes), outcomes
    return outcomes  # type: ignore[return-value]


# --- the executor ----------------------------------------------------------------------------------------------------


def test_every_diagnosis_is_there_in_its_shape_and_repeats() -> None:
    conditions = (CLEAN, Condition("half", "missing/rmm", 0.5))
    (a,), (b,) = (run(spec(conditions=conditions)) for _ in range(2))
    assert json.dumps(a.extra) == json.dumps(b.extra)
    for split in ("valid", "test", "test_published"):
        for c in ("clean", "half"):
            table, found = np.array(a.extra["confusion"][split][c]), a.metrics[split][c]
            assert table.sum() == len(a.predictions.rows[split])
            assert np.trace(table) / table.sum() == pytest.approx(found["accuracy"])
            assert np.nanmean(a.extra["class_auroc"][split][c]) == pytest.approx(found["auroc_macro"], rel=1e-5)
    shapes = {
        "graph": {"mean": (3, 3), "by_class": (6, 3, 3), "h": (), "cycles": (), "order": (3,), "gate": (3,),
                  "sums": (3,), "shd": ()},
        "latent": {"active": (2,), "kl": (), "kl_classes": (6,), "rank": (2,), "scatter": (2,), "fisher": (2,),
                   "silhouette": (), "neighbours": (), "linear": ()},
        "prior": {"optimum": (), "sampled": (4,), "depth": (3,), "drift": (3, 3), "kept": (3, 3), "obeyed": (3,)},
        "joint": {"cosine": (2,), "norms": (2,)},
    }  # fmt: skip
    for name, parts in shapes.items():
        for k, shape in parts.items():
            assert np.shape(a.extra[name][k]) == shape, (name, k)
    assert {k: len(v) for k, v in a.extra["prior"]["loss"].items()} == {"mu": 6, "z": 6}
    added = {k: v for k, v in a.extra.items() if k not in ("config", "recipe")}
    assert len(json.dumps(added)) < 4000  # two conditions


def test_the_probe_is_in_every_epoch_and_agrees_with_the_loop() -> None:
    (o,) = run(spec())
    for e in o.history:
        assert e["probe"]["balanced_accuracy"] == pytest.approx(e["valid"]["balanced_accuracy"], rel=1e-5)
        assert {"batch_averaged_macro_recall_64", "macro_f1", "rare_recall", "active_units"} < set(e["probe"])
        assert sum(e["probe"][f"gate.{m}"] for m in ("text", "audio", "vision")) == pytest.approx(1, rel=1e-5)
        assert sum(e["probe"][f"sums.{m}"] for m in ("text", "audio", "vision")) == pytest.approx(1, rel=1e-5)


def test_what_is_not_defined_on_valid_is_a_number_that_says_so() -> None:
    """A split without the rare classes: the loop takes the probe's values for numbers."""
    data = made("single_label")
    valid = data.split("valid")
    model = AffectDiff(Config(), Shape.of(data)).eval()
    found = diagnose.probe(model, replace(valid, target=torch.zeros_like(valid.target)))
    assert all(isinstance(v, float) for v in found.values())
    assert np.isnan(found["rare_recall"])


def test_training_is_the_same_with_and_without_looking() -> None:
    (a,), (b,) = run(spec()), run(spec(options={"weights": "root"}))
    assert a.metrics == b.metrics
    assert [e["losses"] for e in a.history] == [e["losses"] for e in b.history]
    assert "graph" not in b.extra
    assert "probe" not in b.history[0]


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_stacked_runs_are_diagnosed_as_single_ones(double: None) -> None:
    specs = [spec("single_label", seed=s, overrides={**SMALL, "prior": "joint"}) for s in (0, 1)]
    together, alone = run(*specs), [run(s)[0] for s in specs]
    for x, y in zip(together, alone):
        assert x.extra["confusion"] == y.extra["confusion"]
        for k in ("graph", "latent", "prior", "joint", "class_auroc"):
            assert flat(x.extra[k]) == pytest.approx(flat(y.extra[k]), rel=1e-5, abs=1e-9, nan_ok=True), k
        for e, g in zip(x.history, y.history):
            assert flat(e["probe"]) == pytest.approx(flat(g["probe"]), rel=1e-5, abs=1e-9, nan_ok=True)
    assert together[0].extra["joint"] != together[1].extra["joint"]


def flat(x: Any) -> list[float]:
    if isinstance(x, dict):
        return [v for k in x for v in flat(x[k])]
    return [v for y in x for v in flat(y)] if isinstance(x, list) else [float("nan") if x is None else x]


def test_label_sets_and_models_without_parts_leave_entries_out() -> None:
    (o,) = run(spec("multi_label", recipe_overrides={**RECIPE, "metric": "macro_f1"}))
    assert "confusion" not in o.extra
    assert np.shape(o.extra["class_auroc"]["test"]["clean"]) == (C,)
    assert o.extra["latent"].keys() == {"active", "kl", "kl_classes", "rank"}
    assert np.shape(o.extra["graph"]["by_class"]) == (C, M, M)
    assert o.extra["config"]["class_weights"] == []
    assert np.shape(o.extra["prior"]["kept"]) == (3, 3)
    (o,) = run(spec("single_label", overrides={**SMALL, "gate": "none", "prior": "off"}))
    assert {"graph", "prior", "joint"}.isdisjoint(o.extra)
    assert "sums.text" not in o.history[0]["probe"]
    (o,) = run(spec("single_label", {"diagnose": ["graph"], "probe": True}, model="mlp", overrides={}))
    assert {"graph", "latent"}.isdisjoint(o.extra)
    assert o.history[0]["probe"].keys() == {*diagnose.PROBED["single_label"], "rare_recall"}


def test_a_constant_predictor_fills_one_column() -> None:
    (o,) = run(spec("single_label", {}, model="constant", overrides={}, recipe=None, recipe_overrides={}))
    table = np.array(o.extra["confusion"]["test"]["clean"])
    split = made().split("test", Selection("fixed")).target
    assert table.tolist() == [[int(n), 0, 0] for n in split.bincount(minlength=C)]
    assert o.extra["class_auroc"]["test"]["clean"] == [0.5] * C


def test_weights_come_from_the_training_counts() -> None:
    counts = np.bincount(made().split("train").target.numpy(), minlength=C)
    want = tuple(min((max(counts) / n) ** 0.5, 8) for n in counts)
    (o,) = run(spec("single_label", {"weights": "root"}))
    assert o.extra["config"]["class_weights"] == pytest.approx(want)
    (o,) = run(spec("single_label", {"weights": "root"}, model="imbalance", overrides={"gamma": 2.0}))
    assert (o.extra["config"]["counts"], o.extra["config"]["weighting"]) == (counts.tolist(), "root_max")
    with pytest.raises(ConfigError, match="weights are for"):
        run(spec("single_label", {"weights": "root"}, model="mlp", overrides={}))
    rare = spec(data=DataSpec("w", "world", "imbalance", {"sizes": {"train": 12, "valid": 12, "test": 60}}))
    drawn = execute.load(rare.data, 0)
    n = drawn.split("train").target.bincount(minlength=6)
    assert n.min() == 0  # a class without samples counts as one with one
    assert max(diagnose.weights(rare, drawn)["class_weights"]) == pytest.approx(float(n.max()) ** 0.5)


@pytest.mark.parametrize("options", [{"wieghts": "root"}, {"weights": "inverse"}, {"diagnose": ["grahp"]}])
def test_unknown_options_are_refused(options: Any) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        run(spec(options=options))


def test_the_hash_of_a_run_sees_the_model_s_sources() -> None:
    a, b = (spec("single_label", {}, model=m, overrides={}) for m in ("mlp", "tfn"))
    assert diagnose.modules(a) != diagnose.modules(b)
    assert sources_hash(a) != sources_hash(b)


# --- the graph -------------------------------------------------------------------------------------------------------


def test_the_graph_s_numbers_are_their_definitions() -> None:
    r = np.random.default_rng(0)
    a, y = torch.from_numpy(r.random((50, 3, 3)) * (1 - np.eye(3))), torch.from_numpy(r.integers(0, 2, 50))
    truth = np.array([[0, 0.6, 0], [0, 0, 0.4], [0, 0, 0]])
    fitted: Any = SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(gate="graph")),
        data=SimpleNamespace(task=SimpleNamespace(outputs=2)),
        world=SimpleNamespace(truth=SimpleNamespace(graph=truth)),
    )
    said = {"graph": a, "gate": a.sum(-2).softmax(-1)}
    got = diagnose.graph(fitted, said, y)
    x = a.numpy()
    assert float(got["h"]) == pytest.approx(np.mean([float(acyclicity(g)) for g in a]))
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert float(got["cycles"]) == pytest.approx(np.mean([sum(g[i, j] * g[j, i] for i, j in pairs) for g in x]))
    assert [float(v) for v in got["order"]] == pytest.approx([np.mean(x[:, i, j] > x[:, j, i]) for i, j in pairs])
    np.testing.assert_allclose(got["sums"], np.mean([g.sum(0) / g.sum() for g in x], 0))
    np.testing.assert_allclose(got["by_class"][1], x[y.numpy() == 1].mean(0))
    assert got["shd"] == 4  # every mean is near .5: the full graph has both true edges, each part of a 2-cycle
    one = diagnose.graph(fitted, said | {"graph": torch.from_numpy(-truth).expand(50, 3, 3)}, y)
    assert (one["shd"], float(one["h"])) == (0, 0)


# --- the prior -------------------------------------------------------------------------------------------------------

BARS = diffusion.alpha_bars(diffusion.cosine_betas(100, low=1e-4, high=0.9999))


def test_the_denoising_loss_of_the_best_denoiser_is_the_analytic_number() -> None:
    """Latents of two correlated features with other laws at each of three steps, some steps unseen."""
    r, n = np.random.default_rng(2), 30_000
    maps, means = torch.from_numpy(r.normal(size=(3, 2, 2))), torch.from_numpy(r.normal(size=(3, 2)))
    z = torch.einsum("nlk,lkd->nld", torch.from_numpy(r.normal(size=(n, 3, 2))), maps) + means
    seen = torch.from_numpy(r.random((n, 3)) < 0.7)
    t = prior.levels(n, 100, r)
    eps = torch.from_numpy(r.normal(size=(n, 2, 3)))

    def best(x: Tensor, t: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        bar = BARS[t].view(-1, 1, 1)
        said = []
        for step in range(3):
            s = maps[step].T @ maps[step]
            gain = (1 - bar).sqrt() * torch.linalg.inv(bar * s + (1 - bar) * torch.eye(2).double())
            said.append((gain @ (x[..., step].unsqueeze(-1) - bar.sqrt() * means[step].unsqueeze(-1))).squeeze(-1))
        return torch.stack(said, -1)

    nothing = torch.zeros(n, 1)
    got = prior.denoising_loss(best, z, seen, BARS, t, eps, nothing, nothing)
    dirty = z.masked_fill(~seen.unsqueeze(-1), 100.0)  # what does not count may be anything
    assert got == pytest.approx(prior.gaussian_loss(dirty, seen, dirty, seen, BARS[t]), rel=0.02)
    normal = torch.from_numpy(r.normal(size=(n, 3, 2)))
    got = prior.denoising_loss(
        lambda x, t, *_: (1 - BARS[t]).sqrt().view(-1, 1, 1) * x, normal, None, BARS, t, eps, nothing, nothing
    )
    assert got == pytest.approx(float(BARS.mean()), rel=0.02)  # the mean of alpha-bar
    assert sorted(t.bincount(minlength=100).tolist()) == [n // 100] * 100


def oracle() -> Any:
    """A prior that knows each class as one point, the classifier that tells these points, null as the point 0."""
    points = torch.eye(3).double() * 4

    def unet(x: Tensor, t: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        bar = BARS[t].view(-1, 1, 1)
        return (x - bar.sqrt() * (labels[:, :3] @ points).unsqueeze(-1)) / (1 - bar).sqrt()

    return SimpleNamespace(
        config=SimpleNamespace(latent=3, diffusion_steps=100, ema_decay=None), bars=BARS, unet=unet,
        shape=SimpleNamespace(task=SimpleNamespace(outputs=3, kind="single_label")),
        pool=lambda z, seen: z.mean(-2) if seen is None else (z * seen.unsqueeze(-1)).sum(-2) / seen.sum(-1, True),
        classify=lambda pooled, noise: pooled,
        labels=lambda y, like, hidden=None: torch.nn.functional.one_hot(
            y if hidden is None else torch.full_like(y, 3), 4
        ).to(like.dtype),
    )  # fmt: skip


def test_ddim_with_the_oracle_comes_to_its_point() -> None:
    model = oracle()
    x, labels = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)).double(), torch.eye(4)[:1].double()
    times = torch.tensor([[99, 50, 10]]).expand(5, -1)
    z = prior.back(lambda v, t: model.unet(v, t, labels.expand(5, -1), v), x, times, BARS)
    torch.testing.assert_close(z, torch.tensor([4.0, 0, 0]).double().view(1, 3, 1).expand(5, 3, 4), atol=1e-3, rtol=0)


def test_samples_of_a_known_prior_are_taken_for_their_class_where_it_is_told() -> None:
    got = prior.sampled(oracle(), torch.ones(2).double(), 4, np.random.default_rng(0))
    assert got[1:] == [1.0, 1.0, 1.0]
    assert got[0] < 0.7  # guidance 0 does not know the class


def test_round_trips_of_a_known_prior_do_what_the_label_says() -> None:
    r = np.random.default_rng(0)
    y, seen = torch.from_numpy(r.integers(0, 3, 60)), torch.from_numpy(r.random((60, 4)) < 0.8)
    seen[:, 0] = True
    mu = 4 * torch.nn.functional.one_hot(y, 3).double().unsqueeze(1).expand(60, 4, 3) * seen.unsqueeze(-1)
    got = prior.round_trips(oracle(), {"mu": mu, "seen": seen, "strengths": torch.ones(60, 2).double()}, y, r)
    assert got["depth"] == [10, 30, 50]
    np.testing.assert_allclose(np.array(got["drift"]), [[0, 1, 2**0.5]] * 3, atol=1e-3)
    assert np.array(got["kept"])[:, [0, 2]].tolist() == [[1, 0]] * 3
    assert got["obeyed"] == [1, 1, 1]


def test_the_prior_s_loss_is_the_model_s_own() -> None:
    """What training would compute from the same latents and noise, steps that do not count left out."""
    data = made()
    model = AffectDiff(Config(**SMALL), Shape.of(data)).eval()  # type: ignore[arg-type]
    valid = data.split("valid")
    with torch.no_grad():
        o = model(valid, Tape(torch.zeros(()), training=False))
        t, eps = prior.levels(len(valid), 40, np.random.default_rng(0)), torch.randn(40, 8, 5)
        level = (t + 0.5) / 40
        draws = SimpleNamespace(level=level, eps=eps, hidden=torch.ones(len(valid)))
        told = SimpleNamespace(draws=draws, seen=o.seen, strengths=o.strengths)
        want = model.denoising_loss(o.mu, told, valid.target)  # type: ignore[arg-type]
        own = model.labels(valid.target, o.mu)
        got = prior.denoising_loss(model.unet, o.mu, o.seen, model.bars, t, eps, own, o.strengths)
    assert got == pytest.approx(float(want), rel=1e-6)


# --- gradients -------------------------------------------------------------------------------------------------------


def test_a_stopped_prior_has_no_gradient_on_the_encoders_and_a_joint_one_has() -> None:
    data = made()
    for kind, passes in (("stop", False), ("joint", True)):
        torch.manual_seed(0)
        model = AffectDiff(Config(**SMALL, prior=kind), Shape.of(data))  # type: ignore[arg-type]
        got = diagnose.joint(model, data.split("train"), 0, batches=2, size=32)
        assert (got["norms"] > 0).tolist() == [True, passes]
        assert torch.isfinite(got["cosine"]).tolist() == [passes] * 2


def test_the_cosine_is_that_of_the_two_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made()
    model = AffectDiff(Config(**SMALL, prior="joint"), Shape.of(data))  # type: ignore[arg-type]
    real = model.losses
    monkeypatch.setattr(
        model,
        "losses",
        lambda *a: ((t := real(*a)[0]) | {"diffusion": -2 * t["task"]}, {}),  # opposed, twice as long
    )
    got = diagnose.joint(model, data.split("train"), 0, batches=2, size=32)
    assert got["cosine"].tolist() == pytest.approx([-1, -1], abs=1e-6)
    assert float(got["norms"][1] / got["norms"][0]) == pytest.approx(2, rel=1e-6)


def test_what_a_latent_holds_of_the_features_is_an_r2_by_hand() -> None:
    """A latent that is half of the audio gives all of it back, of the text nothing; classes are judged apart."""
    r = np.random.default_rng(0)
    task, n = Task("single_label", ("a", "b")), 40
    x = {m: r.normal(size=(n, 3, 2)) for m in ("text", "audio")}
    y = np.arange(n) % 2
    x["audio"][y == 1] += 5.0
    splits = {"train": np.arange(20), "valid": np.arange(20, 21), "test": np.arange(21, n)}
    data = AffectData("made", task, x, y, splits, lengths={"text": np.full(n, 2)})
    train, test = data.split("train"), data.split("test", Selection("none", None, None))
    model = AffectDiff(Config(**SMALL), Shape({"text": 2, "audio": 2}, {"text": 3, "audio": 3}, task))  # type: ignore[arg-type]
    told = [{"mu": b.features["audio"] / 2} for b in (train, test)]
    told[1]["reconstruction.audio"] = torch.zeros_like(test.features["audio"])
    found = diagnose.reconstruction(model, train, told[0], test, told[1])
    assert min(found["linear"]["audio"]) > 0.97
    assert abs(found["linear"]["text"][0]) < 0.3
    truth, mean = test.features["audio"].numpy(), train.features["audio"].mean((0, 1)).numpy()
    for k, rows in enumerate((np.ones(len(truth), bool), test.target.numpy() == 0, test.target.numpy() == 1)):
        by_hand = 1 - np.square(truth[rows]).sum() / np.square(truth[rows] - mean).sum()
        assert found["decoder"]["audio"][k] == pytest.approx(by_hand, abs=1e-5)
    assert list(found["decoder"]) == ["audio"]


def test_the_rare_half_and_the_short_form() -> None:
    assert diagnose.rarest(np.repeat(np.arange(6), (9, 5, 4, 1, 1, 2)), 6) == (3, 4, 5)
    assert diagnose.rarest(np.array([0, 0, 1, 2]), 4) == (2, 3)
    got = diagnose.short({"a": torch.tensor([1 / 3]), "b": (np.float64(2e-9 / 3), 7, None)})
    assert got == {"a": [0.333333], "b": [6.66667e-10, 7, None]}
