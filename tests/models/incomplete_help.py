"""What the tests of the baselines for incomplete input share."""

import torch
from small_data import make
from traits import traits

from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.nn.noise import Pool, Tape, fill

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros((), dtype=torch.float64), training=False)


def small(name, preset="clean", size="unaligned", kind="regression", **settings):
    """A small model without drop-out, its weights away from their start, and a training batch, in float64."""
    data = make(size, kind)
    torch.manual_seed(0)
    fields = registry.entry(name).switches
    off = {f: 0.0 for f in fields if "dropout" in f}
    model = registry.build(name, Shape.of(data), preset, **traits(name).small | off | settings).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model, data.split("train").to("cpu", torch.float64)


def pools(model, batch, n=2, seed=0):
    """n pools of the same numbers, enough for one training pass."""
    tape = Tape(torch.zeros((), dtype=torch.float64))
    with torch.no_grad():
        model(batch, tape)
    words = fill([seed], tape.words, "cpu", "test")[0]
    return [Pool(words, torch.zeros((), dtype=torch.float64)) for _ in range(n)]


def plenty(seed):
    """A pool with more numbers than a view takes."""
    return Pool(fill([seed], 10_000, "cpu", "test")[0], torch.zeros((), dtype=torch.float64))


def gradient(loss, parameters):
    """The gradients, zeros where there are none."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters)]
