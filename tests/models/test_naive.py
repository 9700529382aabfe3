"""The fast forms equal the published order of operations, in values and gradients, on the same weights."""

import json
import math

import pytest
import torch
from small_data import make
from traits import traits

from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.models.naive import names, twin
from affectcore.models.shapes import SHAPES
from affectcore.nn.noise import Pool
from affectcore.training import bench

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)


@pytest.mark.parametrize("size", ["aligned", "unaligned"])
@pytest.mark.parametrize("name", names())
def test_the_author_preset_equals_its_naive_twin(name, size):
    data = make(size)
    torch.manual_seed(0)
    presets = registry.entry(name).presets
    preset = next(p for p in ("author", "author_dec", "paper") if p in presets)  # where no code was published: paper
    model = registry.build(name, Shape.of(data), preset, **traits(name).small | traits(name).twin).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases and norms away from their trivial start
        for k, b in model.named_buffers():
            if b.is_floating_point() and "bars" not in k:
                b.add_(0.3)
    batch = data.split("train").to("cpu", torch.float64)
    naive = twin(model).eval()
    inputs = [x.requires_grad_() for x in batch.features.values()]
    ours, theirs = model(batch, SILENT).prediction, naive(batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours.square().sum().backward()
    mine = [None if x.grad is None else x.grad.clone() for x in inputs]
    for x in inputs:
        x.grad = None
    theirs.square().sum().backward()
    for x, g in zip(inputs, mine):
        if x.grad is None or g is None:  # a modality that no prediction reads
            assert not any(v is not None and v.any() for v in (x.grad, g))
        else:
            torch.testing.assert_close(x.grad, g, rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in naive.parameters())
    one, two = norms(model), norms(naive)
    if len(one) == len(two):  # a twin may hold one parameter in parts, then only the total compares
        assert one == pytest.approx(two, abs=1e-9)
    assert math.hypot(*one) == pytest.approx(math.hypot(*two), rel=1e-10)


def norms(model):
    """The sizes of all gradients, sorted; a parameter that the prediction does not read has none."""
    return sorted(0.0 if p.grad is None else p.grad.norm().item() for p in model.parameters())


def test_the_losses_of_affect_diff_equal_the_naive_sum():
    data = make("aligned", "single_label")
    off = {"dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0, "frame_mask": 0.0}
    off |= {"feature_noise": 0.0, "modality_dropout": 0.0, "sampled": False, "prior": "off", "kl_schedule": "constant"}
    torch.manual_seed(0)
    model = registry.build("affect_diff", Shape.of(data), "author", **traits("affect_diff").small | off).double()
    batch = data.split("train").to("cpu", torch.float64)
    naive = twin(model).train()
    progress = Progress(0, 0, 1, 1)
    noise = Pool(torch.zeros(100_000, dtype=torch.int16), torch.zeros((), dtype=torch.float64))
    terms, _ = model.losses(model(batch, noise), batch, progress)
    ours = sum(model.weights(progress).get(k, 1.0) * v for k, v in terms.items())
    (theirs,) = naive.losses(batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours.backward()
    theirs.backward()
    assert norms(model) == pytest.approx(norms(naive), abs=1e-9)


def test_a_model_without_a_twin_says_so():
    data = make("aligned")
    with pytest.raises(ConfigError, match="MLP has no naive twin"):
        twin(registry.build("mlp", Shape.of(data)))


def test_benchmarks_report_the_fields_of_the_command_line(monkeypatch):
    small = Shape({"text": 6, "audio": 3, "vision": 4}, {"text": 5, "audio": 5, "vision": 5}, SHAPES["mosi"].task)
    monkeypatch.setitem(SHAPES, "mosi", small)
    (row,) = bench.run_benchmarks(["lmf"], rounds=1)
    fields = [
        "name",
        "samples_per_s",
        "naive_samples_per_s",
        "ratio",
        "ratio_low",
        "ratio_high",
        "bound_samples_per_s",
        "reference_gemm_gflops",
        "threads",
    ]
    assert list(vars(row)) == fields
    assert row.threads == 1
    assert row.ratio > 0
    json.dumps(vars(row))
    with pytest.raises(ConfigError, match="benchmark 'lstm' is unknown"):
        bench.run_benchmarks(["lstm"])
