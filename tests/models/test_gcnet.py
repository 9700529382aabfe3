"""GCNet: parameters, graphs against loops over edges, conversations, what is hidden, losses by hand."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_data import make

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool, Tape, fill

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)
NOW = Progress(0, 0, 1, 1)


def build(data, preset="clean", **settings):
    torch.manual_seed(0)
    return registry.build("gcnet", Shape.of(data), preset, **({"hidden": 6, "dropout": 0.0} | settings)).double()


def conversations(size="aligned", n=24, **extras):
    data = make(size, n=n)
    batch = data.split("train").to("cpu", torch.float64)
    return data, replace(batch, extras=extras)


def train_pass(model, batch):
    tape = Tape(torch.zeros((), dtype=torch.float64))
    model(batch, tape)
    return model(batch, Pool(fill([0], tape.words, "cpu", "test")[0], torch.zeros((), dtype=torch.float64)))


def test_parameters_are_those_of_the_published_code():
    # counted on GraphModel of zeroQiaoba/GCNet, commit 8cce4a0, hidden 100, one speaker; 1,778,400 are its unread GRU
    assert registry.parameters("gcnet", "author") == 10_630_111
    assert registry.parameters("gcnet", "clean") == 10_630_111 - 1_778_400


@pytest.mark.parametrize("speakers", [1, 2])
@pytest.mark.parametrize("window", [0, 2, 50])
def test_edges_and_messages_equal_a_loop_over_pairs(speakers, window):
    generator = torch.Generator().manual_seed(0)
    who = torch.randint(speakers, (12, 5), generator=generator)
    data, batch = conversations(speaker=who)
    model = build(data, speakers=speakers, window=window)
    exists = batch.valid("text")
    x = torch.randn(12, 5, 12, dtype=torch.float64, generator=generator)
    edges, time, talk = model._edges(batch, exists, x)
    graph = model.speaker
    seen = {}
    graph.context.forward = lambda states, *_: seen.setdefault("nodes", states).new_zeros(12, 5, 30)
    graph(x, edges, talk, exists, None, SILENT, 0.0)
    for b in range(12):
        length = int(batch.lengths["text"][b])
        found = {}
        for i in range(length):
            near = [j for j in range(length) if abs(i - j) <= window]
            assert edges[b, i].nonzero().flatten().tolist() == near
            for r, rule in enumerate((lambda i, j: j < i, lambda i, j: j == i, lambda i, j: j > i)):
                assert time[r, b, i].nonzero().flatten().tolist() == [j for j in near if rule(i, j)]
            out = x[b, i] @ graph.root + graph.bias
            for a in range(speakers):
                for c in range(speakers):
                    heard = [j for j in near if who[b, i] == a and who[b, j] == c]
                    if heard:
                        out = out + x[b, heard].mean(0) @ graph.relations[a * speakers + c]
            found[i] = out
        for i in range(length):
            total = sum(found[j] for j in range(length) if abs(i - j) <= window)
            expected = graph.neighbours(total) + graph.itself(found[i])
            torch.testing.assert_close(seen["nodes"][b, i], torch.cat([x[b, i], expected]), rtol=0, atol=1e-12)
        assert not seen["nodes"][b, length:].any()


def test_attention_over_steps_is_a_softmax_of_bounded_scores_over_existing_steps():
    data, batch = conversations()
    model = build(data)
    exists = batch.valid("text")
    states = torch.randn(12, 5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = model.temporal
    graph.context.forward = lambda *_: states
    zeros = torch.zeros(12, 5, 5, dtype=torch.float64)
    found = graph(torch.zeros(12, 5, 12).double(), zeros, zeros.expand(3, 12, 5, 5), exists, None, SILENT, 0.0)
    for b in range(12):
        n = int(batch.lengths["text"][b])
        weights = torch.tanh(graph.query(states[b]) @ states[b, :n].T).softmax(-1)
        torch.testing.assert_close(found[b], F.relu(graph.last(weights @ states[b, :n])), rtol=0, atol=1e-12)


def test_the_prediction_is_that_of_the_named_step_or_the_last():
    data, batch = conversations()
    model = build(data)
    output = model(batch, SILENT)
    last = batch.lengths["text"] - 1
    torch.testing.assert_close(output.prediction, output.steps[torch.arange(12), last, 0])
    first = model(replace(batch, extras={"position": torch.zeros(12, dtype=torch.int64)}), SILENT)
    torch.testing.assert_close(first.prediction, output.steps[:, 0, 0])
    lite = build(data, "lite")(batch, SILENT)
    means = [lite.steps[b, : last[b] + 1, 0].mean() for b in range(12)]
    torch.testing.assert_close(lite.prediction, torch.stack(means))


def test_a_repeated_conversation_gives_the_published_loss_and_the_same_scores_row_by_row():
    y = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    data, batch = conversations(step_target=y)
    exists = batch.valid("text")
    for preset, error in (("clean", lambda d: d.abs()), ("author", lambda d: d.square())):
        model = build(data, preset)
        output = model(batch, SILENT)
        terms, _ = model.losses(output, batch, NOW)
        expected = error(output.steps.squeeze(-1) - y)[exists].mean()
        torch.testing.assert_close(terms["task"], expected, rtol=0, atol=1e-12)
        assert terms["reconstruction"] == 0


def test_utterances_lose_modalities_one_by_one_and_samples_as_a_whole_in_lite():
    data = make("aligned", n=2000)
    batch = data.split("train")
    seen = torch.stack([batch.observed[m] for m in batch.modalities], -1)  # (B, T, M)
    words = fill([0], 8 * seen.numel(), "cpu", "test")[0]
    for preset, rate, share in (("clean", 0.4, 0.4), ("lite", 0.4, 0.4), ("clean", 0.9, 2 / 3), ("clean", 0.0, 0.0)):
        model = build(data, preset, missing_rate=rate)
        gone = seen & ~model._kept(seen, Pool(words, torch.zeros(())))
        full = seen.all(-1)
        assert gone[full].double().mean().item() == pytest.approx(share, abs=0.03)
        assert not gone[full].all(-1).any()
        varies = ((gone & full[..., None]).any(1) & (~gone & full[..., None]).any(1)).any()
        assert bool(varies) is (preset == "clean" and rate > 0)
        assert torch.equal(model._kept(seen, SILENT), seen)


def test_nothing_hidden_is_read_and_the_reconstruction_is_measured_there_alone():
    data, batch = conversations()
    model = build(data)
    output = train_pass(model, batch)
    terms, _ = model.losses(output, batch, NOW)
    total, steps = 0.0, 0
    for b in range(12):
        for t in range(int(batch.lengths["text"][b])):
            steps += 1
            for m in batch.modalities:
                if output.asked[m][b, t]:
                    total += (output.reconstruction[m][b, t] - batch.features[m][b, t]).square().mean().item()
    assert terms["reconstruction"].item() == pytest.approx(total / steps, abs=1e-12)
    spoiled = {m: torch.where(output.asked[m].unsqueeze(-1), x + 9, x) for m, x in batch.features.items()}
    again = train_pass(model, replace(batch, features=spoiled))
    torch.testing.assert_close(again.steps, output.steps, rtol=0, atol=0)
    assert model.losses(again, batch, NOW)[0]["reconstruction"] != terms["reconstruction"]
    grads = torch.autograd.grad(terms["reconstruction"], model.reconstruct.weight)
    assert grads[0].any()


def test_the_crossed_mask_drops_existing_steps_and_asks_for_padding():
    data, batch = conversations()
    model = build(data, "author")
    output = train_pass(model, batch)
    exists = batch.valid("text")
    order = exists.flatten().view(5, 12)  # the mask runs conversation by conversation, the errors step by step
    total = 0.0
    for t in range(5):
        for b in range(12):
            for m in batch.modalities:
                if order[t, b] and output.asked[m][b, t]:
                    total += (output.reconstruction[m][b, t] - batch.features[m][b, t]).square().mean().item()
    found = model.losses(output, batch, NOW)[0]["reconstruction"].item()
    assert found == pytest.approx(total / int(exists.sum()), abs=1e-12)
    plain = build(data, "author", crossed_mask=False)
    other = plain.losses(train_pass(plain, batch), batch, NOW)[0]["reconstruction"].item()
    assert abs(other - found) > 1e-3
    assert any((output.asked[m] & ~exists).any() for m in batch.modalities)
    full = {m: torch.full_like(v, 5) for m, v in batch.lengths.items()}
    whole = replace(batch, lengths=full, observed={m: torch.ones_like(o) for m, o in batch.observed.items()})
    losses = [m.losses(train_pass(m, whole), whole, NOW)[0]["reconstruction"] for m in (model, plain)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 5}, "hidden = 5 must be even"),
        ({"window": -1}, "window = -1 must be 0 or more"),
        ({"speakers": 0}, "speakers = 0 1 or more"),
        ({"missing_rate": 1.0}, r"missing_rate = 1.0 must lie in \[0, 1\)"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(make("aligned"), **settings)
