"""The text encoder with a tiny random BERT in a folder; nothing is downloaded. Skipped where transformers is absent."""

import numpy as np
import pytest
import torch

from affectcore.data.schema import AffectData, Task
from affectcore.errors import ConfigError
from affectcore.models import text_encoder
from affectcore.models.contract import Shape
from affectcore.models.text_encoder import Pretrained, TextEncoder, TextEncoderConfig, frozen_features, tokenise
from affectcore.nn.noise import Pool
from affectcore.training import loop
from affectcore.training.recipe import Group, Recipe

ONE = torch.zeros((), dtype=torch.float64)
QUIET = Pool(torch.zeros(0, dtype=torch.int16), ONE, training=False)
WORDS = ["good", "bad", "film", "a", "very", "was", "it"]


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install affectcore\[text\]"):
        frozen_features(["good"], Pretrained("bert-base-uncased", "abc"), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    package = pytest.importorskip("transformers", reason="the extra affectcore[text] is not installed")
    path = tmp_path_factory.mktemp("encoder")
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    package.BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    config = package.BertConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        package.BertModel(config).save_pretrained(path)
    return str(path)


def texts_of(n, seed=0):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 8))) for _ in range(n)]
    return texts, np.array([("good" in t) - ("bad" in t) for t in texts], dtype=np.float32)


def data_of(folder, n=24):
    texts, y = texts_of(n)
    ids, lengths = tokenise(texts, Pretrained(folder))
    rng = np.random.default_rng(1)
    x = {"text": np.zeros((*ids.shape, 1), np.float32), "audio": rng.normal(size=(n, 3, 2)).astype(np.float32)}
    rows = np.array_split(np.arange(n), [n // 2, 3 * n // 4])
    return AffectData(
        "words", Task("regression", ("sentiment",)), x, y, dict(zip(("train", "valid", "test"), rows)),
        lengths={"text": lengths}, extras={"tokens": ids},
    )  # fmt: skip


def model_of(folder, data, **settings):
    torch.manual_seed(0)
    return TextEncoder(TextEncoderConfig(name=folder, **settings), Shape.of(data)).double()


def test_frozen_features_are_the_encoders_and_are_computed_once(folder, tmp_path, monkeypatch):
    texts, _ = texts_of(9)
    texts.append(texts[0])
    source = Pretrained(folder, steps=6)
    got = frozen_features(texts, source, tmp_path, batch=4)
    assert len([*tmp_path.rglob("*.safetensors")]) == len(set(texts))
    import transformers

    tokenizer, model = (getattr(transformers, k).from_pretrained(folder) for k in ("AutoTokenizer", "AutoModel"))
    for i, t in enumerate(texts):
        ids = tokenizer(t, truncation=True, max_length=6, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            want = model.eval()(input_ids=ids).last_hidden_state[0]
        assert got.lengths[i] == len(want) <= 6
        np.testing.assert_allclose(got.features[i, : len(want)], want, atol=1e-5)
        assert not got.features[i, len(want) :].any()
    loads = []
    real = text_encoder.load_encoder
    monkeypatch.setattr(text_encoder, "load_encoder", lambda s: loads.append(s) or real(s))
    again = frozen_features(texts[:5], source, tmp_path)
    assert not loads
    np.testing.assert_array_equal(again.features[:, :3], got.features[:5, :3])
    frozen_features([*texts, "good good good bad"], source, tmp_path)
    assert len(loads) == 1
    frozen_features(texts, Pretrained(folder, steps=5), tmp_path)  # another length is another feature
    assert len(loads) == 2


def test_other_weights_are_another_cache(folder, tmp_path):
    import shutil

    import transformers

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    before = Pretrained(folder).identity()
    assert Pretrained(str(other)).identity() == before
    model = transformers.BertModel.from_pretrained(other)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(1)
    model.save_pretrained(other)
    assert Pretrained(str(other)).identity() != before
    assert Pretrained("bert", "abc").identity() != Pretrained("bert", "abd").identity()


def test_the_model_reads_what_the_frozen_features_hold(folder, tmp_path):
    data, (texts, _) = data_of(folder), texts_of(24)
    model = model_of(folder, data)
    batch = data.split("train").to("cpu", torch.float64)
    assert model.backbone.shape.dims["text"] == 8
    read = model.read(batch, QUIET).features["text"]
    frozen = frozen_features(texts[:12], Pretrained(folder), tmp_path).features
    np.testing.assert_allclose(read.detach()[:, : frozen.shape[1]], frozen, atol=1e-5)


def test_hidden_text_is_hidden_from_attention_and_padding_does_not_matter(folder):
    data = data_of(folder)
    model, batch = model_of(folder, data), data.split("train").to("cpu", torch.float64)
    keep = batch.observed["text"] & (torch.arange(batch.observed["text"].shape[1]) != 1)
    hidden = batch.with_observed({"text": keep})
    spoiled = hidden.__class__(
        **{**vars(hidden), "extras": {"tokens": torch.where(keep, hidden.extras["tokens"], torch.tensor(7))}}
    )
    with torch.no_grad():
        shown, a, b = (model(x, QUIET).prediction for x in (batch, hidden, spoiled))
        none = model(batch.with_observed({"text": torch.zeros_like(keep)}), QUIET).prediction
    assert torch.equal(a, b)
    assert (a - shown).abs().max() > 1e-6
    assert torch.isfinite(none).all()


@pytest.mark.parametrize("trained", [None, 1, 0])
def test_it_is_trained_as_far_as_said_and_stacked_as_alone(folder, trained):
    data = data_of(folder)

    def build():
        return TextEncoder(TextEncoderConfig(name=folder, trained=trained), Shape.of(data)).double()

    groups = () if trained == 0 else (Group("encoder", lr=1e-3),)
    recipe = Recipe(epochs=2, batch_size=6, patience=None, selection="valid_last", lr=1e-2, groups=groups)
    state = torch.get_rng_state()
    alone, stacked = (loop.fit(build, data, recipe, [0, 1], stacked=s) for s in (False, True))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(alone, stacked):
        assert max(float((v - b.state[k]).abs().max()) for k, v in a.state.items() if v.is_floating_point()) < 1e-9
    start = loop.initial(build, 0).state_dict()
    moved = {k for k in start if k.startswith("encoder.") and not torch.equal(alone[0].state[k], start[k])}
    all_ = {k for k in start if k.startswith("encoder.") and start[k].is_floating_point()}
    last = {k for k in all_ if ".layer.1." in k}
    assert moved <= {None: all_, 1: last, 0: set()}[trained]
    assert len(moved) >= 0.8 * len({None: all_, 1: last, 0: set()}[trained])


def test_mistakes_are_one_line(folder, tmp_path):
    data = data_of(folder)
    for message, act in (
        ("needs the revision", lambda: Pretrained("bert-base-uncased") and tokenise(["a"], Pretrained("no/such"))),
        (r"cannot be read \(download = True", lambda: tokenise(["a"], Pretrained("no-such-model-here", "abc"))),
        ("cannot be read", lambda: tokenise(["a"], Pretrained(str(tmp_path)))),
        (r"trained = 3 must be None or in 0\.\.2", lambda: model_of(folder, data, trained=3)),
        ("have no modality text", lambda: model_of(folder, data.only(("audio",)))),
    ):
        with pytest.raises(ConfigError, match=message) as e:
            act()
        assert "\n" not in str(e.value)
    model, batch = model_of(folder, data), data.split("train").to("cpu", torch.float64)
    with pytest.raises(ConfigError, match="carry no word pieces"):
        model(batch.__class__(**{**vars(batch), "extras": {}}), QUIET)
