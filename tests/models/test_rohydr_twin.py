"""Every stage's losses and gradients equal the naive twin's, on the same weights, noise and missing modality."""

from dataclasses import replace

import pytest
import torch
from test_rohydr import LATE, batch_of, small

from affectcore.models import naive
from affectcore.models.contract import AffectModel
from affectcore.training.optimise import under

PASSES = {"generator": 0, "discriminator": 1, "rebuilding": 1, "classifier": 2}
"""The stage's forward pass among the three of the published code."""
STILL = dict.fromkeys(("text_dropout", "embed_dropout", "attention_dropout", "relu_dropout", "residual_dropout"), 0.0)
STILL |= {"mrec_dropout": 0.0, "output_dropout": 0.0}


class Draws:
    """Normals of the diffusion loss, its uniform times, and normals of the sampler: a stream each, anew a pass."""

    def __init__(self, number: int) -> None:
        self.eps, self.times, self.sampler = (torch.Generator().manual_seed(10 * number + k) for k in range(3))


def normal(generator, shape):
    return torch.empty(shape, dtype=torch.float64).normal_(generator=generator)


def uniform(generator, shape):
    return torch.empty(shape, dtype=torch.float64).uniform_(generator=generator)


class Given:
    """A model's noise from the same streams."""

    training = True

    def __init__(self, stage: str) -> None:
        self.draws, self.loss_comes = Draws(PASSES[stage]), stage == "generator"

    def dropout(self, x, p):
        assert p == 0
        return x

    def uniform(self, *shape):
        if len(shape) == 2:  # of what to hide: only audio can be
            return torch.full(shape, 0.5, dtype=torch.float64)
        return uniform(self.draws.times, shape)

    def normal(self, *shape):
        stream = self.draws.eps if self.loss_comes else self.draws.sampler
        self.loss_comes = False
        return normal(stream, shape)


@pytest.fixture
def published(monkeypatch):
    """Make the twin draw from `Draws` and start them anew with each of its passes."""
    current = [Draws(0)]

    def prepare(twin):
        count, inner = [0], twin._pass

        def passed(*args):
            current[0], count[0] = Draws(count[0]), count[0] + 1
            return inner(*args)

        monkeypatch.setattr(twin, "_pass", passed)
        monkeypatch.setattr(torch, "randn_like", lambda x: normal(current[0].eps, x.shape))
        monkeypatch.setattr(torch, "randn", lambda shape, dtype: normal(current[0].sampler, shape))
        monkeypatch.setattr(torch, "rand", lambda b: uniform(current[0].times, (b,)))
        monkeypatch.setattr(torch, "randint", lambda low, high, b: (uniform(current[0].times, b) * high).long())
        return twin

    return prepare


def theirs_of(twin, name):
    """The twin's gradient of a parameter of the model; its stacks hold the layers' norms in a list."""
    for part in ("cross", "memory"):
        if name.startswith(f"fusion.{part}."):
            name = name.removeprefix("fusion.").replace("norm_attention", "norms.0").replace("norm_network", "norms.1")
            return twin.get_parameter(name).grad
    return twin.get_parameter(f"body.{name}").grad


@pytest.mark.parametrize(
    "weights", [{}, {"reconstruction_weight": 3.0, "adversarial_weight": 0.2, "recovered_weight": 0.9}]
)
@pytest.mark.parametrize("preset", ["author_may", "author_dec"])
def test_losses_and_gradients_of_every_stage_equal_the_published_order(preset, weights, published):
    """With both sets of weights the sums agree only if each of their two terms does."""
    model: AffectModel = small(preset, **STILL, **weights, recoverable=("audio",))
    batch = batch_of()
    twin = published(naive.twin(model).train())
    stages, theirs = model.stages(), twin.losses(batch)
    assert [s.name for s in stages] == list(PASSES)
    for stage, expected in zip(stages, theirs, strict=True):
        terms, memo = model.stage_losses(stage, batch, Given(stage.name), LATE)
        assert len(terms) == (1 if stage.name == "discriminator" else 2)
        scale = model.weights(LATE)
        loss = sum(scale[k] * v for k, v in terms.items())
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
        batch = replace(batch, extras={**batch.extras, **{k: memo[k] for k in stage.hands}})
        names = [n for n, _ in model.named_parameters() if any(under(n, p) for p in stage.parameters)]
        mine = torch.autograd.grad(loss, [model.get_parameter(n) for n in names], allow_unused=True)
        twin.zero_grad()
        expected.backward(retain_graph=True)  # the passes of the discriminator and of the rebuilding are one
        moved = 0
        for name, g in zip(names, mine):
            other = theirs_of(twin, name)
            zero = torch.zeros(())
            torch.testing.assert_close(
                zero if g is None else g, zero if other is None else other, rtol=1e-7, atol=1e-10
            )
            moved += g is not None and bool(g.any())
        assert moved > 0.5 * len(names)
