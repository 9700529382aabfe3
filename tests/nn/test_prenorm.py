"""The pre-norm encoder against torch's own layers; memory, masks, positions and drop-out."""

import math

import torch

from affectcore.nn.attention import sinusoids
from affectcore.nn.crossmodal import Rates
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.nn.prenorm import Transformer

LIKE = torch.zeros((), dtype=torch.float64)
SILENT = Pool(torch.zeros(0, dtype=torch.int16), LIKE, training=False)


def made(**settings):
    torch.manual_seed(0)
    model = Transformer(8, 2, 2, **settings).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


def test_self_attention_equals_torch():
    model, x = made(positions=False), torch.randn(3, 5, 8, dtype=torch.float64)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, norm_first=True, batch_first=True, dtype=torch.float64)
    theirs = torch.nn.TransformerEncoder(
        layer, 2, torch.nn.LayerNorm(8, dtype=torch.float64), enable_nested_tensor=False
    )
    names = {
        "attention": "self_attn", "up": "linear1", "down": "linear2", "norm_attention": "norm1", "norm_network": "norm2"
    }  # fmt: skip
    for mine, his in zip(model.layers, theirs.layers):
        for a, b in names.items():
            getattr(his, b).load_state_dict(getattr(mine, a).state_dict())
    theirs.norm.load_state_dict(model.norm.state_dict())
    mask = torch.arange(5) < torch.tensor([5, 3, 1]).unsqueeze(1)
    expected = theirs(x * math.sqrt(8), src_key_padding_mask=~mask)
    torch.testing.assert_close(model(x, mask, SILENT)[mask], expected[mask])


def test_memory_is_scaled_placed_and_normalised_as_the_steps_are():
    model = made()
    x, memory = torch.randn(2, 4, 8, dtype=torch.float64), torch.randn(2, 6, 8, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    y, m = (v * math.sqrt(8) + sinusoids(v.shape[1], 8, v) for v in (x, memory))
    for layer in model.layers:
        a = layer.attention(layer.norm_attention(y), layer.norm_attention(m), mask)
        y = y + a
        y = y + layer.down(torch.relu(layer.up(layer.norm_network(y))))
    torch.testing.assert_close(model(x, mask, SILENT, memory), model.norm(y))


def test_steps_that_begin_with_zero_have_no_position():
    x = torch.randn(1, 3, 8, dtype=torch.float64)
    x[0, 1, 0] = 0
    placed, skipped = (made(skip_zeros=s).embed(x, SILENT) for s in (False, True))
    assert torch.equal(skipped[0, [0, 2]], placed[0, [0, 2]])
    assert torch.equal(skipped[0, 1], x[0, 1] * math.sqrt(8))


def test_every_rate_drops_at_its_place():
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    for rates, words in (
        ({"embed_dropout": 0.5}, 2 * 3 * 8),
        ({"rates": Rates(attention=0.5)}, 2 * 2 * 2 * 3 * 3),
        ({"rates": Rates(inner=0.5)}, 2 * 2 * 3 * 32),
        ({"rates": Rates(residual=0.5)}, 2 * 2 * 2 * 3 * 8),
    ):
        model, tape = made(**rates), Tape(LIKE)
        model(x, None, tape)
        assert tape.words == words
        pool = Pool(fill([0], words, "cpu", "t")[0], LIKE)
        assert not torch.allclose(model(x, None, pool), model(x, None, SILENT))
        pool.close()
