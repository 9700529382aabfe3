"""RoHyDR: published counts, which stage reaches what, targets that only training sees, the schedules, every switch."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.data.missing import make_missing
from affectcore.data.protocol import EachStep
from affectcore.data.schema import Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.rohydr import CARRY, PRESETS, RoHyDR
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.nn.recovery import ScoreUNet
from affectcore.training import loop
from affectcore.training.bench import random_batch
from affectcore.training.recipe import Recipe, preset

SMALL = traits("rohydr").small | {"recoverable": (), "kernel": 3}
LIKE = torch.zeros((), dtype=torch.float64)
SILENT = Pool(torch.zeros(0, dtype=torch.int16), LIKE, training=False)
LATE = Progress(0, 9, 10, 1)  # after the pretraining
GROUPS = ("project", "denoisers", "subsets", "reconstructors", "fusion", "mrec", "discriminator", "head")


def shape(modalities=3, steps=6):
    names = ("text", "audio", "vision", "face", "gaze")[:modalities]
    return Shape(dict.fromkeys(names, 4), dict.fromkeys(names, steps), Task("regression", ("sentiment",)))


def small(name="clean", of=None, **more) -> RoHyDR:
    torch.manual_seed(0)
    model: RoHyDR = registry.build("rohydr", of or shape(), name, **(SMALL | more)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))  # away from layers that start at zero
    return model


def batch_of(of=None, samples=6, rate=1.0, without="audio"):
    whole = random_batch(of or shape(), samples).to("cpu", torch.float64)
    return EachStep(make_missing(f"without:{without}", rate))(whole, 0, 0)


def pool_of(run):
    tape = Tape(LIKE)
    with torch.no_grad():
        run(tape)
    return Pool(fill([0], tape.words, "cpu", "test")[0], LIKE)


def run(model, batch, stage=None, progress=LATE):
    stage = stage or model.stages()[0]
    noise = pool_of(lambda tape: model.stage_losses(stage, batch, tape, progress))
    terms, memo = model.stage_losses(stage, batch, noise, progress)
    noise.close()
    return terms, memo


def reached(model, loss):
    """Top-level parts with a gradient that is not zero."""
    named = dict(model.named_parameters())
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {n.split(".")[0] for n, g in zip(named, grads) if g is not None and g.abs().max() > 0}


# --- the published models


def test_parameters_of_the_published_codes():
    assert registry.parameters("rohydr", "author_may") == 13_076_866
    assert registry.parameters("rohydr", "author_dec") == 4_176_034
    assert registry.parameters("imder", "author") == registry.parameters("imder") == 13_001_425


def test_a_batch_remembers_what_a_protocol_hid():
    whole = random_batch(shape(), 4)
    hidden = EachStep(make_missing("without:audio", 1.0))(whole, 0, 3)
    assert not hidden.observed["audio"].any()
    assert not hidden.features["audio"].any()
    assert hidden.remembers
    assert not whole.remembers
    for m in whole.modalities:
        assert torch.equal(hidden.complete().features[m], whole.features[m])
        assert torch.equal(hidden.complete().observed[m], whole.observed[m])
    assert whole.complete() is whole


def test_predictions_read_what_is_observed_and_never_the_targets():
    model, batch = small(), batch_of()
    with torch.no_grad():
        shown = model(batch, SILENT)
        spoiled = {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in batch.extras.items()}
        assert torch.equal(model(replace(batch, extras=spoiled), SILENT).prediction, shown.prediction)
    assert shown.missing.tolist() == [[False, True, False]] * 6


# --- any number of modalities


@pytest.mark.parametrize("modalities", [2, 3, 5])
@pytest.mark.parametrize("name", PRESETS)
def test_any_number_of_modalities(name, modalities):
    of = shape(modalities, 8)
    model = small(name, of, draws=0, layers=1)
    whole = random_batch(of, 4).to("cpu", torch.float64)
    batch = EachStep(make_missing("random_subset", 0.4))(whole, 1, 1)
    stage = model.stages()[0]
    terms, _ = run(model, batch, stage)
    assert all(torch.isfinite(v) for v in terms.values())
    with torch.no_grad():
        assert torch.isfinite(model(batch, SILENT).prediction).all()
    if name != "clean" and modalities == 5:
        assert len(model.subsets.sets) == 10 + 10 + 5  # two, three, four streams


def test_conditions_by_subset_take_each_set_s_own_map():
    model = small("author_dec", shape(4))
    streams = [torch.randn(2, 6, 8, dtype=torch.float64) for _ in range(4)]
    available = torch.tensor([[True, False, True, True], [False, False, False, True]])
    out, mask = model.subsets(streams, [None] * 4, available, 1)
    conv = model.subsets.convs[model.subsets.sets.index((0, 2, 3))]
    torch.testing.assert_close(out[0], conv(torch.cat([streams[0], streams[2], streams[3]], -1))[0])
    torch.testing.assert_close(out[1], streams[3][1])
    assert mask is None


# --- diffusion


class Oracle(torch.nn.Module):
    """A denoiser that knows the answer: what it says is the noise in x, by the schedule it was trained on."""

    def __init__(self, answer, bars):
        super().__init__()
        self.answer, self.bars = answer, bars

    def context(self, *_):
        return None

    def forward(self, x, t, context, mask):
        bar = self.bars[t.round().long()[0]]
        return (x - bar.sqrt() * self.answer) / (1 - bar).sqrt()


class ExplodingOracle(Oracle):
    def forward(self, x, t, context, mask):
        sigma = ((25 ** (2 * t[0] / 1000) - 1) / (2 * torch.log(torch.tensor(25.0)))).sqrt()
        return (x - self.answer) / sigma


def sampled(model, oracle, n=None):
    batch = batch_of()
    model.denoisers = torch.nn.ModuleList(oracle(a) for a in ANSWERS)
    if n:
        model.config = replace(model.config, sampling_steps_test=n)
    with torch.no_grad():
        model.eval()
        noise = Tape(LIKE, training=False)
        model(batch, noise)
        pool = Pool(fill([1], noise.words, "cpu", "sample")[0], LIKE, training=False)
        return model(batch, pool).samples


ANSWERS = [torch.linspace(-0.9, 0.9, 48, dtype=torch.float64).view(6, 8).roll(k, 0) for k in range(3)]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm", "euler"])
@pytest.mark.parametrize("process", ["preserving", "exploding"])
def test_samplers_with_a_denoiser_that_knows_the_answer_recover_the_target(sampler, process):
    model = small(sampler=sampler, process=process, sampling_steps=1, diffusion_steps=1000, draws=1)
    make_oracle = Oracle if process == "preserving" else ExplodingOracle
    found = sampled(model, lambda a: make_oracle(a, model.bars), 50 if sampler != "euler" else 1000)
    tolerance = 1e-6
    if sampler == "euler":  # a stochastic solver: what is left is the noise of its last steps
        tolerance = 0.15
    for x, answer in zip(found, ANSWERS):
        assert (x - answer).abs().max() < tolerance


def test_the_schedule_mismatch_of_december_and_its_repair():
    broken = small("author_dec", diffusion_steps=1000, same_length=True, draws=0, sampling_steps=50)
    fixed = small("author_dec", diffusion_steps=1000, same_length=True, draws=0, sampling_steps=50,
                  sampling_schedule=None)  # fmt: skip
    assert float(broken.sampling_bars[49]) == pytest.approx(0.603, abs=5e-4)  # where it starts from pure noise
    assert float(broken.bars[49]) == pytest.approx(0.971, abs=5e-4)  # what the network has learned of that time
    assert torch.equal(fixed.sampling_bars, fixed.bars)
    for model, wrong in ((broken, True), (fixed, False)):
        found = sampled(model, lambda a, m=model: Oracle(a, m.bars), 50)
        gap = max(float((x - a).abs().max()) for x, a in zip(found, ANSWERS))
        assert (gap > 0.1) if wrong else (gap < 1e-6)


def test_diffusion_loss_is_summed_or_averaged_over_steps_and_features():
    one, many = small(), small(summed=True)
    batch = batch_of()
    mean, total = (run(m, batch)[0]["diffusion"] for m in (one, many))
    torch.testing.assert_close(total, mean * 6 * 8)


def test_the_same_noise_in_condition_and_target_cancels():
    model = small("author_may")
    heard = []
    context = model.denoisers[1].context
    model.denoisers[1].context = lambda s, m, n: heard.append(s[0].detach().clone()) or context(s, m, n)
    forward = model.denoisers[1].forward
    model.denoisers[1].forward = lambda x, *a: heard.append(x.detach().clone()) or forward(x, *a)
    for kind, clean in (("shared", True), ("independent", False)):
        heard.clear()
        model.config = replace(model.config, condition_noise=kind, redrawn=False)
        run(model, batch_of(samples=2, of=shape()))
        first, second = heard[len(heard) // 2 :][:2]  # after the dry run
        one = second - first  # x_t - c_t
        heard.clear()
        model.config = replace(model.config, condition_noise="none")
        run(model, batch_of(samples=2, of=shape()))
        first, second = heard[len(heard) // 2 :][:2]  # x_t - c at the same draw: its noise is there unless it cancelled
        assert bool((second - first).std() > 2 * one.std()) is clean


# --- stages


def stages(model):
    return {s.name: s for s in model.stages()}


def test_which_parts_each_stage_moves():
    batch = batch_of()
    clean = small()
    found = {}
    for name, stage in stages(clean).items():
        terms, _ = run(clean, batch, stage)
        weights = clean.weights(LATE)
        found[name] = reached(clean, sum(weights[k] * v for k, v in terms.items()))
        assert found[name] <= set(stage.parameters)
    assert found == {
        "generator": {"denoisers", "reconstructors"},
        "discriminator": {"discriminator"},
        "rebuilding": {"reconstructors", "fusion", "mrec"},
        "classifier": {"project", "reconstructors", "fusion", "mrec", "head"},
    }
    december = small("author_dec")
    named = stages(december)
    terms, _ = run(december, batch, named["rebuilding"])
    moved = reached(december, terms["adversarial"] + terms["fusion"])
    assert {"denoisers", "discriminator"} <= moved  # through the sampler, and D by the other optimiser
    assert reached(december, terms["fusion"]) >= {"denoisers", "reconstructors", "fusion", "mrec"}
    may = small("author_may")
    terms, _ = run(may, batch, stages(may)["rebuilding"])
    assert reached(may, terms["adversarial"]) == {"reconstructors", "fusion", "mrec", "discriminator"}
    assert "project" not in reached(may, run(may, batch, stages(may)["classifier"])[0]["truth"])
    trained = small(extractor="trained")
    assert "project" in reached(trained, run(trained, batch)[0]["diffusion"])


def test_only_the_last_steps_of_the_sampler_pass_gradients():
    batch, sizes = batch_of(), []
    for k in (0, 1, 4):
        model = small(backprop=k)
        loss = run(model, batch)[0]["reconstruction"]
        parts = dict(model.named_parameters())
        g = torch.autograd.grad(loss, parts["denoisers.1.leave.weight"], allow_unused=True)[0]
        sizes.append(0.0 if g is None else float(g.norm()))
    assert sizes[0] == 0
    assert sizes[1] > 0
    assert abs(sizes[2] - sizes[1]) > 1e-9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("three", ["generator", "discriminator", "rebuilding", "classifier"]),
        ("two_a", ["generator", "discriminator", "rebuilding+classifier"]),
        ("two_b", ["discriminator", "generator+rebuilding", "classifier"]),
        ("one", ["discriminator", "generator+rebuilding+classifier"]),
        ("fused", ["fused"]),
    ],
)
def test_stage_plans_train(name, expected):
    data = make("aligned")
    build = lambda: registry.build("rohydr", Shape.of(data), stages=name, **SMALL)  # noqa: E731
    assert [s.name for s in build().stages()] == expected
    recipe = Recipe(epochs=1, batch_size=6, patience=None, selection="valid_last")
    (fit,) = loop.fit(build, data, recipe, [0], augment=EachStep(make_missing("random_mr", 0.5)))
    start = loop.initial(build, 0).state_dict()
    moved = {k.split(".")[0] for k, v in fit.state.items() if k in start and not torch.equal(v, start[k])}
    assert {"denoisers", "reconstructors", "fusion", "mrec", "discriminator", "head"} <= moved
    assert not torch.equal(fit.state["mrec.norm.mean"], start["mrec.norm.mean"])


def test_the_author_s_recipe_fits_the_author_s_stages():
    data = make("aligned")
    build = lambda: registry.build("rohydr", Shape.of(data), "author_dec", **SMALL)  # noqa: E731
    recipe = preset("rohydr_author", epochs=1, batch_size=6)
    (fit,) = loop.fit(build, data, recipe, [0], augment=EachStep(make_missing("without:audio", 1.0)))
    assert "classifier.total" in fit.history[0].losses
    assert {s.group for s in build().stages()} == {"main", "discriminator"}


def test_later_stages_take_the_samples_of_the_first_or_of_the_discriminator():
    clean, may, december = (small(p).stages() for p in ("clean", "author_may", "author_dec"))
    assert [bool(s.hands) for s in clean] == [True, False, False, False]
    assert [bool(s.hands) for s in may] == [False, True, False, False]
    assert not any(s.hands for s in december)
    model, batch = small(), batch_of()
    _, memo = run(model, batch, clean[0])
    handed = replace(batch, extras={**batch.extras, **{k: memo[k] for k in clean[0].hands}})
    seen = []
    model._sample = lambda *a: seen.append(a)
    run(model, handed, clean[2])
    assert seen == []  # nothing is drawn again
    assert torch.equal(memo[CARRY + "available"] > 0, torch.tensor([[True, False, True]] * 6))


def test_a_sample_that_lost_nothing_asks_for_nothing():
    model, batch = small(), batch_of(rate=0.0)
    for s in model.stages()[:3]:
        assert all(float(v.detach()) == 0 for v in run(model, batch, s)[0].values())
    terms, _ = run(model, batch, model.stages()[3])
    assert float(terms["truth"].detach()) > 0


def test_the_model_hides_by_itself_where_nothing_is_remembered():
    model, whole = small(hide=1.0), random_batch(shape(), 6).to("cpu", torch.float64)
    o = model(whole, pool_of(lambda tape: model(whole, tape)))
    assert (o.available.sum(-1) == 1).all()  # one is kept
    assert torch.equal(o.hidden, ~o.available)
    batchwise = small(hide=0.5, hide_by_batch=True)
    o = batchwise(whole, pool_of(lambda tape: batchwise(whole, tape)))
    assert (o.available == o.available[:1]).all()
    redrawn, batch = small(redrawn=True), batch_of()
    assert (redrawn(batch, pool_of(lambda tape: redrawn(batch, tape))).available.sum(-1) == 2).all()


# --- losses


def test_losses_of_the_rebuilding_and_of_the_classifier():
    model, batch = small(adversarial_weight=0.3), batch_of()
    o = model(batch, pool_of(lambda tape: model(batch, tape)))
    terms, _ = model.losses(o, batch, LATE)
    torch.testing.assert_close(terms["fusion"], (o.fused_truth - o.rebuilt).abs().mean())
    torch.testing.assert_close(terms["truth"], (o.truth_prediction - batch.target).abs().mean())
    logit, _ = model.discriminator(o.rebuilt, True, torch.ones(6, dtype=torch.bool))
    expected = F.binary_cross_entropy(torch.sigmoid(logit), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(terms["adversarial"], expected)
    assert model.weights(LATE) == pytest.approx(
        {"truth": 0.6, "recovered": 0.4, "diffusion": 0.5, "reconstruction": 0.5, "discriminator": 0.1,
         "adversarial": 0.3, "fusion": 0.7}
    )  # fmt: skip
    early = model.weights(Progress(0, 0, 100, 1))
    assert early["truth"] == 1
    assert all(v == 0 for k, v in early.items() if k != "truth")


def test_dynamic_weighting_by_its_formulas():
    model, batch = small(weighting="uncertainty", stages="fused"), batch_of()
    with torch.no_grad():
        model.log_variances.copy_(torch.tensor([0.5, -1.0, 2.0]))
    plain = small(stages="fused")
    with torch.no_grad():
        for k, p in plain.named_parameters():
            p.copy_(dict(model.named_parameters())[k])
    a, b = run(model, batch)[0], run(plain, batch)[0]
    w = plain.weights(LATE)
    generator = w["diffusion"] * b["diffusion"] + w["reconstruction"] * b["reconstruction"]
    torch.testing.assert_close(a["generator"], torch.exp(LIKE - 0.5) * generator + 0.25)
    dwa = small(weighting="dwa", stages="fused")
    for epoch, losses in ((0, (1.0, 4.0, 2.0)), (0, (3.0, 4.0, 2.0)), (1, (1.0, 2.0, 2.0)), (2, (9.0, 9.0, 9.0))):
        dwa.remember({"dwa.losses": torch.tensor(losses, dtype=torch.float64), "dwa.epoch": LIKE + epoch})
    assert dwa.before.tolist() == [2, 4, 2]
    assert dwa.last.tolist() == [1, 2, 2]
    with torch.no_grad():
        for k, p in dwa.named_parameters():
            p.copy_(dict(plain.named_parameters())[k])
    scale = 3 * torch.softmax(torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64) / 2, 0)
    torch.testing.assert_close(run(dwa, batch)[0]["generator"], scale[0] * generator)


@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "gradnorm", "pcgrad"])
def test_dynamic_weighting_trains_stacked_as_single(weighting):
    data = make("aligned")

    def build():
        more = {"weighting": weighting, "stages": "fused", "pretraining": 0.0, "recoverable": ("text",)}
        return registry.build("rohydr", Shape.of(data), **(SMALL | more)).double()

    recipe = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last", eps=1e-2, clip_norm=None)
    single = loop.fit(build, data, recipe, [0, 1])
    for one, two in zip(single, loop.fit(build, data, recipe, [0, 1], stacked=True)):
        for k, v in one.state.items():
            torch.testing.assert_close(two.state[k], v, rtol=0, atol=1e-9, msg=k)
    if weighting == "gradnorm":
        weights = single[0].state["group_weights"]
        assert float(weights.sum()) == pytest.approx(3)
        assert float((weights - 1).abs().max()) > 1e-3


# --- arms of the experiments


@pytest.mark.parametrize(
    "more",
    [
        {"recovery": "regressor"}, {"recovery": "noise"}, {"recovery": "mean"}, {"recovery": "zero"},
        {"reconstructor": False}, {"mrec": False}, {"adversarial_weight": 0.0}, {"adversarial_weight": 1.0},
        {"condition": "none"}, {"condition": "shuffled"}, {"denoiser": "dit"}, {"denoiser": "unet"},
        {"shared_denoiser": True}, {"direct": True}, {"recovered_weight": 1.0}, {"tanh": True}, {"positions": False},
    ],
    ids=lambda m: "-".join(f"{k}={v}" for k, v in m.items()),
)  # fmt: skip
def test_every_arm_changes_the_numbers_and_stays_finite(more):
    batch, base = batch_of(), small()
    model = small(**more)
    for s in model.stages():
        terms, _ = run(model, batch, s)
        assert all(torch.isfinite(v) for v in terms.values())
    with torch.no_grad():
        y = model(batch, SILENT).prediction
        assert torch.isfinite(y).all()
        if not set(more) <= {"adversarial_weight", "recovered_weight", "direct"}:  # these act in training alone
            assert not torch.equal(y, base(batch, SILENT).prediction)


def test_draws_are_averaged():
    model, batch = small(draws=3), batch_of()
    noise = Tape(LIKE, training=False)
    with torch.no_grad():
        model(batch, noise)
        words = fill([0], noise.words, "cpu", "draws")[0]
        three = model(batch, Pool(words, LIKE, training=False)).prediction
        model.config = replace(model.config, draws=1)
        pool = Pool(words, LIKE, training=False)
        each = torch.stack([model(batch, pool).prediction for _ in range(3)])
    torch.testing.assert_close(three, each.mean(0))
    assert each.std(0).max() > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"same_length": False}, "needs padded True"),
        ({"sampling_steps": 21}, r"sampling_steps 21 must lie in 1\.\.20"),
        ({"condition_noise": "shared"}, "needs denoiser 'unet' or 'dit'"),
        ({"weighting": "pcgrad"}, "needs stages 'one' or 'fused'"),
        ({"recoverable": ("smell",)}, "must be modalities of the data"),
        ({"hide": 2.0}, r"hide 2.0 must lie in \[0, 1\]"),
        ({"denoiser": "mlp"}, "must be one of unet, dit, set"),
        ({"recovery": "mean", "standardise": False}, "needs standardise"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        small(**more)


# --- IMDer, the same recovery in one joint loss


def test_imder_s_loss_is_one_sum_and_reaches_what_the_code_s_does():
    torch.manual_seed(0)
    model = registry.build("imder", shape(), "author", **traits("imder").small | {"recoverable": (), "kernel": 3})
    model, batch = model.double(), batch_of()
    (stage,) = model.stages()
    terms, _ = run(model, batch, stage)
    assert set(terms) == {"task", "diffusion", "reconstruction"}
    assert model.weights(LATE) == {"diffusion": 0.1, "reconstruction": 0.1}
    assert reached(model, terms["diffusion"]) <= {"denoisers", "subsets"}
    assert reached(model, terms["reconstruction"]) == {"reconstructors"}
    assert reached(model, terms["task"]) == {"reconstructors", "fusion", "head"}
    clean = registry.build("imder", shape(), **traits("imder").small).double()
    assert "project" in reached(clean, run(clean, batch, clean.stages()[0])[0]["task"])


def test_imder_s_fusion_drops_more_of_the_attention_to_audio_alone():
    model = registry.build("imder", shape(), "author", attention_dropout=0.1)
    rates = dict(zip(shape().modalities, model.fusion.settings.attention_dropout))
    assert rates == {m: 0.2 if m == "audio" else 0.1 for m in shape().modalities}
    assert model.fusion.settings.memory_dropout == 0.1


@pytest.mark.parametrize(("groups", "alive"), [(32, False), (4, True)])
def test_a_norm_of_single_channels_leaves_nothing_of_one_step(groups, alive):
    torch.manual_seed(0)
    net = ScoreUNet(32, groups=groups, causal=False).double()
    x, mask = torch.randn(2, 1, 32).double(), torch.ones(2, 1, dtype=torch.bool)
    net(x, torch.ones(2).double(), net.context([x], [mask], 1), mask).square().sum().backward()
    deep = torch.stack([p.grad.abs().max() for p in net.down[3].parameters()])
    assert bool(deep.max() > 1e-8) == alive
