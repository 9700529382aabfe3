"""Affect-Diff: published counts, what the prior can and cannot reach, every switch, the losses against torch's."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_data import make
from traits import traits

from affectcore.data.schema import Batch, Selection, Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.affect_diff import AUTHOR, GATES, PAPER, AffectDiff, GroupNorm, StepDenoiser, UNet, root_weights
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training import loop
from affectcore.training.learner import Body
from affectcore.training.recipe import Recipe

MOSEI = Shape(
    {"text": 300, "audio": 74, "vision": 35},
    {"text": 50, "audio": 50, "vision": 50},
    Task("single_label", ("happy", "sad", "angry", "fear", "disgust", "surprise")),
)
SMALLEST = traits("affect_diff").small
DATA = make("aligned", "single_label")
SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def small(preset="clean", data=DATA, **more) -> AffectDiff:
    torch.manual_seed(0)
    model: AffectDiff = registry.build("affect_diff", Shape.of(data), preset, **(SMALLEST | more)).double()
    return model


def batch_of(data=DATA) -> Batch:
    return data.split("train").to("cpu", torch.float64)


def run(model, batch, progress=None):
    """Output and terms of one training pass; the noise is that of step 0."""
    progress = progress or Progress(0, 0, 3, 1)
    like = torch.zeros((), dtype=torch.float64)
    tape = Tape(like)
    model(batch, tape)
    pool = Pool(fill([0], tape.words, "cpu", "test")[0], like)
    output = model(batch, pool)
    pool.close()
    terms, memo = model.losses(output, batch, progress)
    return output, terms, memo


def value(x):
    return x.detach().item()


def names(model, *starts):
    return [n for n, _ in model.named_parameters() if n.startswith(starts)]


# --- the published model


def test_parameters_of_the_published_runs():
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(registry.build("affect_diff", MOSEI, "author", prior="off")) == 1_473_353
    full = registry.build("affect_diff", MOSEI, "author")
    assert count(full) == 5_194_953
    assert count(full) + sum(b.numel() for b in full.average.buffers()) == 8_916_553
    parts = {n: count(m) for n, m in zip(MOSEI.modalities, full.encoders)}
    assert parts == {"text": 435_584, "audio": 444_544, "vision": 410_624}
    assert count(full.unet) == 3_721_600
    assert count(full.gate.query) + count(full.gate.key) == 33_024
    assert count(full.gate.network) == 24_835  # read by nobody
    assert count(full.hidden) + count(full.head) == 25_542
    paper = registry.build("affect_diff", MOSEI, "paper")
    assert count(paper.hidden) + count(paper.head) == 17_542
    assert count(paper.unet) > 14.5e6  # the text's width contradicts the text's count


def test_the_unet_s_lengths():
    unet, seen = UNet(16, 8, 6, 3), []
    for stage in unet.down:
        stage.change.register_forward_hook(lambda m, i, o: seen.append(o.shape[-1]))
    for steps in (50, 1, 2, 3, 5):
        out = unet(torch.randn(2, 16, steps), torch.tensor([0, 999]), torch.eye(7)[:2], torch.ones(2, 3))
        assert out.shape == (2, 16, steps)
        assert torch.isfinite(out).all()
    assert seen[:3] == [25, 12, 12]


def test_the_denoiser_of_single_steps_sees_each_step_alone_and_its_condition():
    torch.manual_seed(0)
    denoiser, x = StepDenoiser(16, 8, 6, 3).double(), torch.randn(2, 16, 3, dtype=torch.float64)
    y, w, t = torch.eye(7, dtype=torch.float64)[:2], torch.ones(2, 3, dtype=torch.float64), torch.tensor([0, 999])
    out = denoiser(x, t, y, w)
    changed = x.clone()
    changed[:, :, 1] += 1
    moved = (denoiser(changed, t, y, w) - out).abs().amax((0, 1))
    assert moved[1] > 1e-3
    assert not moved[[0, 2]].any()
    for other in (denoiser(x, t + 1 - 2 * (t > 0), y, w), denoiser(x, t, y.flip(0), w), denoiser(x, t, y, 2 * w)):
        assert ((other - out).abs().amax((1, 2)) > 1e-6).all()


def test_a_prior_over_single_steps_trains_and_samples():
    data = make("pooled", "single_label")
    model = registry.build("affect_diff", Shape.of(data), "clean", **SMALLEST, denoiser="mlp")
    assert isinstance(model.unet, StepDenoiser)
    batch = data.split("train")
    tape = Tape(batch.target)
    model.losses(model(batch, tape), batch, Progress(0, 0, 1, 1))
    output = model(batch, Pool(fill([0], tape.words, "cpu", "denoiser")[0], torch.zeros(())))
    terms, _ = model.losses(output, batch, Progress(0, 0, 1, 1))
    terms["diffusion"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.unet.named_parameters())
    drawn = model.sample(torch.randn(4, SMALLEST["latent"], 1), torch.tensor([0, 1, 2, 0]), torch.ones(4, 2))
    assert drawn.shape == (4, 1, SMALLEST["latent"])
    assert torch.isfinite(drawn).all()


def test_schedules_of_the_published_run():
    author = registry.build("affect_diff", MOSEI, "author")
    paper = registry.build("affect_diff", MOSEI, "paper")

    def at(model, name, weight):
        return [round(model.weights(Progress(e, 0, 1, 100))[name] / weight, 10) for e in (0, 5, 10, 19, 20, 28, 29, 30)]

    assert at(author, "kl", 0.1) == [0, 0.5, 1, 1, 0, 0.8, 0.9, 1]
    assert at(author, "diffusion", 0.05) == [0, 0, 0.05, 0.5, 0.55, 0.95, 1, 1]
    assert at(author, "causal", 0.05) == [1] * 8
    assert at(paper, "kl", 0.1) == [round(min(1, e / 30), 10) for e in (0, 5, 10, 19, 20, 28, 29, 30)]
    assert at(paper, "diffusion", 0.05) == [0, 0.25, 0.5, 0.95, 1, 1, 1, 1]
    decoder = small("clean", decoder=True)
    assert [decoder.weights(Progress(e, 0, 1, 100))["reconstruction"] for e in (0, 9, 40)] == [0.025, 0.25, 0.5]


def test_copied_layers_start_equal_and_only_in_author():
    for preset, same in (("author", True), ("clean", False)):
        first, second = registry.build("affect_diff", MOSEI, preset, prior="off").encoders[0].layers
        assert torch.equal(first.up.weight, second.up.weight) is same


# --- what the prior reaches


def test_a_stopped_prior_has_no_gradient_path_to_the_encoders():
    for prior, reached in (("stop", False), ("joint", True)):
        model = small(prior=prior)
        _, terms, _ = run(model, batch_of())
        p = dict(model.named_parameters())
        grads = dict(zip(p, torch.autograd.grad(terms["diffusion"], list(p.values()), allow_unused=True)))
        assert all(grads[n] is not None and grads[n].abs().sum() > 0 for n in names(model, "unet.start", "unet.out"))
        outside = [n for n in p if not n.startswith("unet.")]
        if reached:
            assert all(
                grads[n] is not None and grads[n].abs().max() > 0 for n in names(model, "encoders.0.layers", "mu.")
            )
        else:
            assert all(grads[n] is None for n in outside)  # None: not even a path of zeros


def test_a_stopped_prior_has_exactly_zero_gradient_under_torch_func():
    model, batch = small(), batch_of()
    like = torch.zeros((), dtype=torch.float64)
    tape = Tape(like)
    model(batch, tape)
    words = fill([0], tape.words, "cpu", "test")[0]

    def loss(p):
        def terms(m):
            return m.losses(m(batch, Pool(words, like)), batch, Progress(0, 0, 3, 1))[0]["diffusion"]

        return body.with_({**p, **dict(model.named_buffers())}, terms)

    body = Body(model)
    grads = torch.func.grad(loss)(dict(model.named_parameters()))
    assert all(not g.any() for n, g in grads.items() if not n.startswith("unet."))
    assert any(g.any() for n, g in grads.items() if n.startswith("unet."))


RECIPE = Recipe(epochs=3, batch_size=6, patience=None, selection="valid_last", lr=3e-3, clip_norm=0.5)
APART = RECIPE.but(clip_prefixes=(("unet", 0.5),))


def classifier(recipe, **more):
    """All tensors outside the prior after training in float32, and the probabilities on the test split."""
    build = lambda: registry.build("affect_diff", Shape.of(DATA), "clean", **(SMALLEST | more))  # noqa: E731
    fit = loop.fit(build, DATA, recipe, [3])[0]
    state = {k: v for k, v in fit.state.items() if not k.startswith(("unet.", "average.", "bars"))}
    return state, loop.predict(build, fit, DATA.split("test", Selection("fixed")))


def gap(a, b):
    assert a[0].keys() == b[0].keys()
    return max(float((a[0][k] - b[0][k]).abs().max()) for k in a[0])


def test_full_and_no_diffusion_are_the_same_classifier_bit_for_bit():
    off, full = classifier(RECIPE, prior="off"), classifier(APART, prior="stop")
    assert all(torch.equal(off[0][k], full[0][k]) for k in off[0])
    assert (off[1] == full[1]).all()
    strong = classifier(APART, prior="stop", diffusion_weight=5.0, label_dropout=0.5, condition="ones")
    assert gap(off, strong) == 0  # whatever the prior does
    assert gap(off, classifier(RECIPE, prior="stop")) > 0  # coupling by the shared clip alone
    assert gap(off, classifier(APART, prior="stop", shared_noise=True)) > 0  # coupling by the shared noise alone
    assert gap(off, classifier(APART, prior="joint")) > 0  # and the loss itself, where it may


# --- losses


def test_task_loss_is_torch_s_and_both_focal_forms():
    w = (1.0, 2.0, 3.0)
    logits = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(9) % 3

    def loss(**more):
        return float(small(class_weights=w, **more)._task(logits, y))

    ce = F.cross_entropy(logits, y, torch.tensor(w, dtype=torch.float64), label_smoothing=0.1, reduction="none")
    p = logits.softmax(-1)[torch.arange(9), y]
    assert loss(focal="none") == pytest.approx(float(ce.mean()))
    assert loss(focal="loss") == pytest.approx(float(((1 - torch.exp(-ce)) ** 2 * ce).mean()))
    assert loss(focal="probability") == pytest.approx(float(((1 - p) ** 2 * ce).mean()))
    assert root_weights((1293, 340, 195, 33, 35, 60))[:2] == pytest.approx((1.0, 1.950), abs=1e-3)
    assert root_weights((1000, 1)) == (1.0, 8.0)


def test_kl_of_a_normal_free_bits_and_class_scale():
    model, batch = small(), batch_of()
    o, terms, _ = run(model, batch)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(o.mu, torch.exp(0.5 * o.logvar)), normal(0.0, 1.0))
    assert value(terms["kl"]) == pytest.approx(value(kl.sum(-1)[o.seen].mean()))
    free = run(small(free_bits=0.01), batch)[1]["kl"]
    assert value(free) == pytest.approx(value((kl - 0.01).clamp(min=0).sum(-1)[o.seen].mean()))
    scaled = run(small(kl_class_scale=(0.0, 1.0, 2.0)), batch)[1]["kl"]
    factor = batch.target.unsqueeze(-1).expand(o.seen.shape)[o.seen]
    assert value(scaled) == pytest.approx(value((kl.sum(-1)[o.seen] * factor).mean()))
    assert "kl" not in run(small(kl_weight=0.0), batch)[1]


def test_noise_and_kl_are_two_switches():
    batch = batch_of()
    o, _, _ = run(small(sampled=False), batch)
    assert torch.equal(o.z[o.seen], o.mu.clamp(-10, 10)[o.seen])
    o, _, _ = run(small(), batch)
    assert not torch.equal(o.z[o.seen], o.mu[o.seen])
    model = small()
    with torch.no_grad():
        o = model(batch, SILENT)
    assert torch.equal(o.z[o.seen], o.mu[o.seen])  # evaluation reads the mean


def test_causal_loss_at_the_start_of_the_paper():
    model = small(gate="graph")
    with torch.no_grad():
        for p in (*model.gate.query.parameters(), *model.gate.key.parameters()):
            p.zero_()  # all scores 0: every edge 0.5
    o, terms, _ = run(model, batch_of())
    assert value(terms["causal"]) == pytest.approx(0.2397, abs=5e-5)
    model.config = replace(model.config, sparsity=0.0)
    assert value(run(model, batch_of())[1]["causal"]) == pytest.approx(0.2063, abs=5e-5)
    model.config = replace(model.config, sparsity=0.1, penalty="none")
    assert value(run(model, batch_of())[1]["causal"]) == pytest.approx(0.1 * 0.5 * 6 / 9)
    torch.testing.assert_close(o.gate, torch.full_like(o.gate, 1 / 3))


def test_reconstruction_is_the_mean_of_the_modalities_errors_where_observed():
    model, batch = small(decoder=True), batch_of()
    o, terms, _ = run(model, batch)
    each = [
        (y[batch.observed[m]] - batch.features[m][batch.observed[m]].clamp(-10, 10)).square().mean()
        for y, m in zip(o.reconstruction, batch.modalities)
    ]
    assert value(terms["reconstruction"]) == pytest.approx(value(torch.stack(each).mean()))


def test_denoising_loss_by_hand():
    model, batch = small(label_dropout=0.5), batch_of()
    o, terms, _ = run(model, batch)
    t = (o.draws.level * 1000).long()
    bar = model.bars[t].view(-1, 1, 1)
    z0 = o.z.transpose(1, 2)
    noisy = (bar.sqrt() * z0 + (1 - bar).sqrt() * o.draws.eps) * o.seen.unsqueeze(1)
    y = torch.where(o.draws.hidden < 0.5, 3, batch.target)
    assert len(y.unique()) == 4  # all classes and "no label"
    said = model.unet(noisy, t, torch.eye(4, dtype=torch.float64)[y], o.graph.sum(1).clamp(0, 5))
    error = (said - o.draws.eps).square().mean(1)
    assert value(terms["diffusion"]) == pytest.approx(value(error[o.seen].mean()))


# --- gates


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("scaled", [False, True])
def test_gates_are_shares_and_train(gate, scaled):
    model, batch = small(gate=gate, gate_scaled=scaled), batch_of()
    o, terms, memo = run(model, batch)
    total = 3.0 if scaled or gate == "none" else 1.0
    torch.testing.assert_close(o.gate.sum(-1), torch.full_like(o.gate[:, 0], total))
    assert ("causal" in terms) is (gate in ("graph", "gumbel", "lagrangian"))
    if gate in ("none", "uniform", "softmax"):
        torch.testing.assert_close(o.gate, torch.full_like(o.gate, total / 3))
    if gate in ("graph", "gumbel", "lagrangian"):
        assert not o.graph.diagonal(dim1=1, dim2=2).any()
        assert total * 0.063 < o.gate.min()
        assert o.gate.max() < total * 0.787
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for n, p in model.named_parameters() if n == "gate.scores")
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("gate."))
    model.remember(memo)


def test_the_gate_reads_columns_or_rows():
    model = small()
    graph = torch.tensor([[[0.0, 0.9, 0.8], [0.1, 0.0, 0.2], [0.3, 0.4, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(model.gate.sums(graph)[0], torch.tensor([0.4, 1.3, 1.0], dtype=torch.float64))
    out = small(strength="out").gate.sums(graph)[0]
    torch.testing.assert_close(out, torch.tensor([1.7, 0.3, 0.7], dtype=torch.float64))


@pytest.mark.parametrize("settings", [{"gate": "gumbel"}, {"gate": "lagrangian"}, {"gate": "mlp", "decoder": True}])
def test_stacked_equals_single_with_state_and_other_gates(settings):
    recipe = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last", lr=3e-3)
    build = lambda: small(**settings, lagrangian_steps=1, gumbel_in_evaluation=True)  # noqa: E731
    single = loop.fit(build, DATA, recipe, [0, 1])
    stacked = loop.fit(build, DATA, recipe, [0, 1], stacked=True)
    for one, two in zip(single, stacked):
        for k, v in one.state.items():
            torch.testing.assert_close(two.state[k], v, rtol=0, atol=1e-9, msg=k)


def test_gumbel_cools_by_epoch_and_draws_in_evaluation_only_as_published():
    model = small(gate="gumbel")
    for epoch, expected in ((0, 1.0), (4, 0.8), (10, 0.5), (60, 0.5)):
        _, _, memo = run(model, batch_of(), Progress(epoch, 0, 1, 100))
        model.remember(memo)
        assert float(model.gate.temperature) == pytest.approx(expected)
    for published in (False, True):
        tape = Tape(torch.zeros((), dtype=torch.float64), training=False)
        small(gate="gumbel", gumbel_in_evaluation=published)(batch_of(), tape)
        assert (tape.words > 0) is published


def test_the_lagrangian_gate_finds_which_node_another_is_made_of():
    model = small(gate="lagrangian", lagrangian_steps=20)
    g = torch.Generator().manual_seed(0)
    text, vision = (torch.randn(200, 16, dtype=torch.float64, generator=g) for _ in range(2))
    audio = 1.5 * text + 0.3 * torch.randn(200, 16, dtype=torch.float64, generator=g)
    nodes = torch.stack([text, audio, vision], 1)
    optimizer = torch.optim.Adam([model.gate.edges], 0.02)
    o, _, _ = run(model, batch_of())
    for step in range(400):
        _, graph = model.gate(nodes, SILENT)
        memo = {}
        terms = model._causal(replace(o, nodes=nodes, graph=graph), Progress(0, step, 400, 1), memo)
        optimizer.zero_grad()
        (terms["fit"] + terms["causal"]).backward()
        optimizer.step()
        model.remember(memo)
    w = (model.gate.edges * (1 - torch.eye(3))).detach()
    assert float(w[0, 1]) == pytest.approx(1.5 - model.config.sparsity, abs=0.02)  # the lasso's shrinkage at variance 1
    w[0, 1] = 0
    assert w.abs().max() < 0.1
    assert float(model.gate.rho) > 1
    assert float(model.gate.alpha) > 0


# --- average, sampling, priors that act


def test_the_average_follows_after_the_step_and_starts_as_a_copy():
    model = small(ema_decay=0.9)
    before = [b.clone() for b in model.average.buffers()]
    assert all(torch.equal(b, p) for b, p in zip(before, model.unet.parameters(), strict=True))
    _, _, memo = run(model, batch_of())
    with torch.no_grad():
        for p in model.unet.parameters():
            p.add_(1.0)
    model.remember(memo)
    for b, old in zip(model.average.buffers(), before):
        torch.testing.assert_close(b, old + 0.1)
    assert not any(n.startswith("average") for n, _ in model.named_parameters())


def test_sampling_is_guided_by_the_label_and_uses_the_average():
    model = small(sampling_steps=5)
    start = torch.randn(3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, ones = torch.tensor([0, 1, 2]), torch.ones(3, 3, dtype=torch.float64)
    z = model.sample(start, y, ones)
    assert z.shape == (3, 6, 8)
    assert torch.isfinite(z).all()
    assert z.abs().max() <= 12  # the last step ends at the bounded estimate of the data
    assert not torch.allclose(z, model.sample(start, y.roll(1), ones))
    assert not torch.allclose(z, model.sample(start, y, ones, guidance=1.0))
    with torch.no_grad():
        for p in model.unet.parameters():
            p.zero_()
    assert torch.equal(z, model.sample(start, y, ones))
    author = small("author", sampling_steps=5, diffusion_start=-20)
    assert not torch.allclose(author.sample(start, y, ones), small(sampling_steps=5).sample(start, y, ones))


@pytest.mark.parametrize("ema_decay", [0.999, None])
def test_replay_trains_the_classifier_on_sampled_latents_and_nothing_else(ema_decay):
    model = small(replay=6, sampling_steps=3, ema_decay=ema_decay)
    o, terms, _ = run(model, batch_of())
    assert model.replayed(o.mu).tolist() == [0, 1, 2, 0, 1, 2]
    p = dict(model.named_parameters())
    grads = dict(zip(p, torch.autograd.grad(terms["replay"], list(p.values()), allow_unused=True)))
    touched = {n.split(".")[0] for n, g in grads.items() if g is not None}
    assert touched == {"pool_query", "hidden", "head"}
    assert model.weights(Progress(0, 0, 1, 1))["replay"] == 0.1
    late = small(replay=6, sampling_steps=3, diffusion_start=9)
    assert [late.weights(Progress(e, 0, 1, 100))["replay"] for e in (0, 28, 29)] == [0, 0, 0.1]


class KnowsClassOne(torch.nn.Module):
    """Says nothing is noise for class 1, and nonsense for the others."""

    def forward(self, x, t, labels, strengths):
        return torch.zeros_like(x) + 10 * (1 - labels[:, 1]).view(-1, 1, 1)


@pytest.mark.parametrize("inference", ["prior", "both"])
def test_the_prior_predicts_the_class_that_explains_the_noise(inference):
    model, batch = small(inference=inference, ratio_draws=3), batch_of()
    tape = Tape(torch.zeros((), dtype=torch.float64), training=False)
    model(batch, tape)

    def predict(rows):
        pool = Pool(fill([0], tape.words, "cpu", "test")[0], torch.zeros((), dtype=torch.float64), training=False)
        with torch.no_grad():
            return model(batch.rows(rows), pool).prediction

    everyone, order = torch.arange(len(batch)), torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(predict(order), predict(everyone)[order])
    torch.testing.assert_close(predict(order[:4]), predict(everyone)[order[:4]])
    model.average = KnowsClassOne()
    seen = torch.stack(list(batch.observed.values())).any(0).any(-1)
    assert (predict(everyone).argmax(-1)[seen] == 1).all()


# --- masks


def test_group_norm_with_a_mask_is_the_norm_of_what_is_observed():
    norm = GroupNorm(16)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 16, 7)
    mask = torch.arange(7) < torch.tensor([[4], [7]])
    y = norm(x, mask)
    torch.testing.assert_close(y[:1, :, :4], norm(x[:1, :, :4]))
    torch.testing.assert_close(y[1:], norm(x[1:]))


def test_hidden_values_change_no_loss():
    data = make("unaligned", "single_label")
    model, batch = small(data=data, decoder=True), batch_of(data)
    spoiled = {m: torch.where(batch.observed[m].unsqueeze(-1), x, torch.tensor(9.0)) for m, x in batch.features.items()}
    _, shown, _ = run(model, batch)
    _, terms, _ = run(model, replace(batch, features=spoiled))
    for k in shown:
        torch.testing.assert_close(terms[k], shown[k], rtol=0, atol=0, msg=k)


def test_augmentation_is_for_training_alone_and_keeps_its_rates():
    data = make("aligned", "single_label", n=2000)
    batch = batch_of(data)
    model = small(data=data, frame_mask=0.3, modality_dropout=0.2, layers=1)
    tape = Tape(torch.zeros((), dtype=torch.float64))
    model._inputs(batch, tape)
    pool = Pool(fill([0], tape.words, "cpu", "test")[0], torch.zeros((), dtype=torch.float64))
    xs, masks = model._inputs(batch, pool)
    for m, x, mask in zip(batch.modalities, xs, masks):
        share = float(mask.sum() / batch.observed[m].sum())
        assert share == pytest.approx(0.7 * 0.8, abs=0.03)
        assert not x[~mask].any()
        noise = (x - batch.features[m])[mask]
        assert float(noise.std()) == pytest.approx(0.0 if m == "text" else 0.01, rel=0.1)
    still, unchanged = model._inputs(batch, SILENT)
    assert all(torch.equal(v, batch.features[m]) for v, m in zip(still, batch.modalities))
    assert all(torch.equal(v, batch.observed[m]) for v, m in zip(unchanged, batch.modalities))


# --- settings


def test_presets_differ_where_the_documents_do():
    assert (AUTHOR.heads, AUTHOR.classifier_layers, AUTHOR.free_bits, AUTHOR.unet_width) == (8, 3, 0.0, 64)
    assert (PAPER.heads, PAPER.classifier_layers, PAPER.free_bits, PAPER.unet_width) == (4, 2, 0.25, 128)
    assert AUTHOR.padded
    assert PAPER.padded


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gate": "sigmoid"}, "gate 'sigmoid' must be one of none, uniform"),
        ({"width": 20}, "width 20 must be a multiple of 8"),
        ({"unet_width": 12}, "unet_width 12 must be a multiple of 8"),
        ({"kernel": 4}, "kernel 4 must be odd"),
        ({"classifier_layers": 4}, "classifier_layers 4 must be 2 or 3"),
        ({"gate": "lagrangian", "penalty": "log_det"}, "cannot have penalty 'log_det'"),
        ({"gate": "lagrangian", "penalty": "none"}, "cannot have penalty 'none'"),
        ({"prior": "off", "replay": 2}, "need a prior, got prior 'off'"),
        ({"label_dropout": 0.0}, "guidance 3.0 needs label_dropout > 0"),
        ({"class_weights": (1.0, 2.0)}, "class_weights has 2 values"),
        ({"ema_decay": 1.0}, "ema_decay 1.0 must lie in"),
        ({"prior": "both"}, "prior 'both' must be one of off, stop, joint"),
        ({"sampling_steps": 2000}, "sampling_steps 2000 must lie in"),
    ],
)
def test_wrong_settings_are_one_clear_line(overrides, message):
    with pytest.raises(ConfigError, match=message) as e:
        small(**overrides)
    assert "\n" not in str(e.value)


def test_a_regression_has_no_classes_to_replay():
    with pytest.raises(ConfigError, match="need a single_label task, got regression"):
        small(data=make("aligned"), replay=2)
    assert math.isfinite(value(run(small(data=make("aligned")), batch_of(make("aligned")))[1]["diffusion"]))
