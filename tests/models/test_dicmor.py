"""DiCMoR: flows inverted and their determinants by brute force, densities, what is recovered from what, gradients."""

import math
from dataclasses import replace

import pytest
import torch
from small_data import make
from torch.func import jacrev
from traits import traits

from affectcore.data.schema import Task
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.baselines.dicmor import CLEAN, Config, Coupling, Flow, memberships
from affectcore.models.contract import Progress, Shape
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Pool, Tape, fill

START = Progress(0, 0, 1, 1)
STILL = {k: 0.0 for k in vars(CLEAN) if k.endswith("dropout") or k.startswith("attention_dropout")}


def small(preset="clean", size="aligned", **more):
    data = make(size, "regression")
    torch.manual_seed(0)
    model = registry.build("dicmor", Shape.of(data), preset, **traits("dicmor").small | STILL | more).double()
    shake(model)
    return model, data.split("train").to("cpu", torch.float64)


def shake(module):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))


def whole(batch):
    """The batch with everything observed."""
    observed = {m: torch.ones_like(o) for m, o in batch.observed.items()}
    lengths = {m: torch.full_like(n, batch.features[m].shape[1]) for m, n in batch.lengths.items()}
    features = {m: torch.randn_like(x) for m, x in batch.features.items()}
    return replace(batch, features=features, observed=observed, lengths=lengths)


def hiding(batch, *gone):
    """The batch without some modalities, as a protocol leaves it: it remembers them."""
    kept = {f"complete.{m}": x for m, x in batch.features.items()}
    kept |= {f"complete_observed.{m}": o for m, o in batch.observed.items()}
    return replace(batch.with_observed({m: torch.zeros_like(batch.observed[m]) for m in gone}), extras=kept)


def run(model, batch):
    like = torch.zeros((), dtype=torch.float64)
    tape = Tape(like)
    model(batch, tape)
    pool = Pool(fill([0], tape.words, "cpu", "dicmor")[0], like)
    out = model(batch, pool)
    return out, model.losses(out, batch, START)[0]


def reached(model, loss):
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return {k.split(".")[0] for (k, _), g in zip(model.named_parameters(), grads) if g is not None and g.any()}


@pytest.mark.parametrize("mixing", [True, False])
def test_a_flow_is_inverted_and_its_determinant_is_that_of_its_jacobian(mixing):
    torch.manual_seed(0)
    flow = Flow(6, 5, 4, mixing).double()
    shake(flow)
    x = 2 * torch.randn(3, 2, 6).double()
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow(flow.inverse(x))[0], x, rtol=0, atol=1e-10)
    for i in range(3):
        for t in range(2):
            jacobian = jacrev(lambda v: flow(v)[0])(x[i, t])
            assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(log_det[i, t].item(), abs=1e-10)
    assert log_det.std() > 1e-3


def test_a_coupling_starts_as_a_shrinking_of_one_half():
    y, log_det = Coupling(4, 5, False)(torch.ones(1, 4))
    s = 1 / (1 + math.exp(-2))
    torch.testing.assert_close(y, torch.tensor([[1.0, 1.0, s, s]]))
    assert log_det.item() == pytest.approx(2 * math.log(s))


def test_without_mixing_half_of_what_is_recovered_is_another_modality_s():
    for preset in ("author", "clean"):
        model, _ = small(preset)
        x = torch.randn(5, 8).double()
        back = model.flows[1].inverse(model.flows[0](x)[0])
        assert torch.equal(back[:, :4], x[:, :4]) == (preset == "author")
        assert not torch.allclose(back[:, 4:], x[:, 4:])


def test_bits_are_the_change_of_variables():
    model, batch = small(size="unaligned")
    out, terms = run(model, hiding(batch, "audio"))
    total = 0.0
    mean, log_sd = (model.priors * torch.exp(3 * model.gains)).chunk(2, -1)
    for i, m in enumerate(batch.modalities):
        logs = []
        for b in range(len(batch)):
            c = int(batch.target[b].round().clamp(-3, 3)) + 3
            normal = torch.distributions.Normal(mean[c], log_sd[c].exp())
            for t in range(batch.features[m].shape[1]):
                if batch.observed[m][b, t]:
                    x = out.truth[i][b, t]
                    z = model.flows[i](x)[0]
                    jacobian = jacrev(lambda v, i=i: model.flows[i](v)[0])(x)
                    logs.append((normal.log_prob(z).sum() + torch.linalg.slogdet(jacobian)[1]).item())
        total -= sum(logs) / len(logs) / (8 * math.log(2))
    assert terms["likelihood"].item() == pytest.approx(total, rel=1e-10)


def test_a_flow_fits_the_density_of_its_class():
    model, _ = small(couplings=6)
    shape = torch.tensor([[0.5, 0.4], [0.0, 0.3]]).double()
    x = torch.randn(400, 1, 2).double() @ shape + torch.tensor([2.0, -1.0]).double()
    x = x.repeat(1, 1, 4) + 0.05 * torch.randn(400, 1, 8).double()
    mask, shares = torch.ones(400, 1, dtype=torch.bool), torch.eye(7).double()[torch.full((400,), 4)]
    exact = -torch.distributions.MultivariateNormal(x[:, 0].mean(0), x[:, 0].T.cov()).log_prob(x[:, 0]).mean()
    wanted = exact.item() / (8 * math.log(2))
    opt = torch.optim.Adam([*model.flows[0].parameters(), model.priors, model.gains], 1e-2)
    for _ in range(300):
        bits = model._bits(0, x, mask, shares)
        opt.zero_grad()
        bits.backward()
        opt.step()
    assert wanted - 0.2 < bits.item() < wanted + 0.2
    assert not model.priors[3].equal(model.priors[4])


@pytest.mark.parametrize("floored", [True, False])
def test_a_floor_stops_the_flows_of_dense_streams(floored):
    model, batch = small(floored=floored)
    with torch.no_grad():
        model.priors.zero_()
        for conv in model.project:
            conv.weight.mul_(1e-3)
        for flow in model.flows:
            for c in flow.couplings:
                c.log_scale.fill_(2.0)
                for p in (c.shift, c.last.weight, c.last.bias):
                    p.zero_()
    _, terms = run(model, whole(batch))
    assert (terms["likelihood"] == 0) == floored
    assert ("flows" in reached(model, terms["likelihood"])) == (not floored)


def test_classes():
    like, config = torch.zeros(7, 1), Config()
    y = torch.tensor([-3.0, -0.4, 0.5, 1.5, 2.6, 9.0])  # halves go to the even number, as in the published code
    assert memberships(config, Task("regression", ("y",)), y, like).argmax(-1).tolist() == [0, 3, 3, 5, 6, 6]
    single = memberships(config, Task("single_label", ("a", "b")), torch.tensor([1, 0]), torch.zeros(2, 1))
    assert single.tolist() == [[0, 1], [1, 0]]
    labels = torch.tensor([[1, 1], [0, 0], [0, 1]])
    many = memberships(config, Task("multi_label", ("a", "b")), labels, torch.zeros(3, 1))
    assert many.tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]]


def test_one_stream_is_taken_across_and_two_meet_in_a_convolution():
    model, batch = small(padded=True)
    full = whole(batch)
    names = batch.modalities
    with torch.no_grad():
        x = [c(full.features[m].transpose(1, 2)).transpose(1, 2) for c, m in zip(model.project, names)]
        z = [f(v)[0] for f, v in zip(model.flows, x)]
        one = run(model, hiding(full, names[1], names[2]))[0]
        for i in (1, 2):
            expected = model.reconstructors[i](model.flows[i].inverse(z[0]), None)
            torch.testing.assert_close(one.recovered[i], expected)
        two = run(model, hiding(full, names[1]))[0]
        conv = model.subsets.convs[model.subsets.sets.index((0, 2))]
        pair = torch.cat([model.flows[1].inverse(z[0]), model.flows[1].inverse(z[2])], -1)
        torch.testing.assert_close(two.recovered[1], model.reconstructors[1](conv(pair), None))


def test_the_error_is_that_of_hidden_streams_alone():
    model, batch = small()
    full = whole(batch)
    out, terms = run(model, hiding(full, "audio", "vision"))
    i, j = (batch.modalities.index(m) for m in ("audio", "vision"))
    errors = [(out.recovered[k] - out.truth[k]).square().mean() for k in (i, j)]
    torch.testing.assert_close(terms["reconstruction"], (errors[0] + errors[1]) / 2)
    assert run(model, hiding(full))[1]["reconstruction"] == 0


@pytest.mark.parametrize("preset", ["author", "clean"])
def test_what_each_loss_moves(preset):
    model, batch = small(preset, mixing=preset == "clean")
    model_terms = run(model, hiding(whole(batch), "audio"))[1]
    assert reached(model, model_terms["likelihood"]) == {"flows", "priors", "gains"}
    assert reached(model, model_terms["reconstruction"]) == {"reconstructors", "subsets"}
    moved = {"reconstructors", "subsets", "fusion", "head"} | ({"project"} if preset == "clean" else set())
    assert reached(model, model_terms["task"]) == moved
    assert model.weights(START) == {"likelihood": 0.1, "reconstruction": 0.1}


@pytest.mark.parametrize("together", [True, False])
def test_a_batch_that_remembers_nothing_loses_modalities(together):
    model, batch = small(hide_by_batch=together, hide=0.6)
    out, _ = run(model, whole(batch))
    assert out.available.any(-1).all()
    assert out.hidden.any()
    assert (out.available == out.available[0]).all() == together


@pytest.mark.parametrize("noisy", [True, False])
def test_dropped_text_reaches_targets_only_if_asked(noisy):
    model, batch = small(text_dropout=0.5, noisy_targets=noisy)
    full = whole(batch)
    out, _ = run(model, full)
    exact = model.project[0](full.features["text"].transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(out.truth[0], exact) == (not noisy)


def test_parameters_of_the_published_code():
    assert registry.parameters("dicmor", "author") == 3_524_817
    model = registry.build("dicmor", SHAPES["mosi"], "author")
    assert model.spare.numel() == 137_792  # counted on the published model, of what its graph does not reach


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"same_length": False}, "needs padded True"),
        ({"width": 7}, "must be even"),
        ({"kernel": 4}, "must be odd"),
        ({"hide": 2.0}, r"hide 2.0 must lie in \[0, 1\]"),
        ({"extractor": "pretrained"}, "must be frozen or trained"),
        ({"limit": 0}, "must be 1 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        small(**more)
