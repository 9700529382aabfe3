"""Executors that train nothing: what a dictionary of bias words covers on real transcripts, and how long a step takes.

`count_words`, arm "coverage": bias words of the transcripts of CMU-MOSI (training part) and of CMU-MOSEI (the valid and
test transcripts: those of its training part are not here), by the published rule and by the recommended one. Shares
alone go into the record, no word. `time_steps`, arm "step_times": one training step of the models that the headline
compares, at the paper's own sizes.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affectcore.data import readers
from affectcore.errors import AffectError
from affectcore.models import registry
from affectcore.models.cider import bias_words
from affectcore.models.contract import Progress, Shape
from affectcore.models.shapes import SHAPES, THREE
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.studies import execute
from affectcore.studies.brief import short
from affectcore.studies.cider.diagnose import PUBLISHED
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec
from affectcore.training.bench import random_batch

MOST = (25, 50, 100, 200, 500, 1000, None)
RULES: dict[str, dict[str, Any]] = {"published": PUBLISHED, "recommended": {}}
TIMED = ("cider", "emt_dlfr", "tfr_net", "lnln", "mult")
# common English words of praise and blame, ours: no lexicon is among the project's data
SENTIMENT = frozenset((
    "good", "great", "best", "better", "love", "loved", "like", "liked", "enjoy", "enjoyed", "fun", "funny", "nice",
    "amazing", "awesome", "excellent", "fantastic", "wonderful", "beautiful", "brilliant", "perfect", "happy",
    "hilarious", "entertaining", "interesting", "cool", "favorite", "favourite", "recommend", "solid", "strong",
    "impressive", "bad", "worse", "worst", "hate", "hated", "boring", "bored", "terrible", "horrible", "awful",
    "stupid", "dumb", "disappointing", "disappointed", "disappointment", "lame", "poor", "sad", "ugly", "weak",
    "waste", "wasted", "annoying", "ridiculous", "predictable", "cheesy", "slow", "wrong", "fail", "failed",
    "problem", "unfortunately",
))  # fmt: skip
Ints = NDArray[np.int64]


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules that these executors look up."""
    timed = (
        [m for name in TIMED for m in registry.modules(name, "clean")] if spec.execute.endswith("time_steps") else []
    )
    return (*execute.modules(spec), *timed)


# --- words -----------------------------------------------------------------------------------------------------------


def count_words(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Executor: a constant, and beside it the shares of `counted` for both transcripts."""
    return _beside(specs, device, "coverage", lambda _: counted(transcripts()))


def _beside(specs: Sequence[RunSpec], device: str, name: str, of: Any) -> list[Outcome | AffectError]:
    done = execute.train_and_score(specs, device)
    return [
        replace(o, extra={**o.extra, name: short(of(s))}) if isinstance(o, Outcome) else o for s, o in zip(specs, done)
    ]


def transcripts() -> dict[str, tuple[list[list[str]], NDArray[np.float64], NDArray[np.bool_]]]:
    """Return words, sentiment and whether a row is training data, of both corpora."""
    mosi, mosei = readers.table("cmu_mosi_utt"), readers.table("cmu_mosei_labels")
    mosei = mosei[mosei["text"].str.len() > 0]
    whole = np.ones(len(mosei), bool)  # its training transcripts are absent: what is there plays both parts
    train = (mosi["split_standard"] == "train").to_numpy()
    return {
        "cmu_mosi": ([words_of(t) for t in mosi["text"]], mosi["sentiment"].to_numpy(float), train),
        "cmu_mosei": ([words_of(t) for t in mosei["text"]], mosei["sentiment"].to_numpy(float), whole),
    }


def words_of(text: str) -> list[str]:
    """Return a transcript's words in lower case, without marks."""
    return re.findall(r"[a-z0-9']+", text.lower())


def counted(corpora: Mapping[str, tuple[list[list[str]], NDArray[np.floating], NDArray[np.bool_]]]) -> dict[str, Any]:
    """Return, per corpus: "passing", the share of all words whose CV is 0.1 or more, by rule and task; per pair
    "source to target" and rule: for every number of MOST, how much of the target's sentiment lexicon (words that occur,
    occurrences) and of all its occurrences the source's dictionary holds. Source and target may be the same corpus:
    then the dictionary is made on its training part and read on the rest.
    """
    numbers = {w: i + 1 for i, w in enumerate(sorted({w for c in corpora.values() for row in c[0] for w in row}))}
    lexicon = {numbers[w] for w in SENTIMENT if w in numbers}
    out: dict[str, Any] = {"passing": {}, "covered": {}}
    made: dict[tuple[str, str], tuple[int, ...]] = {}
    for name, (texts, sentiment, train) in corpora.items():
        rows = padded([t for t, k in zip(texts, train) if k], numbers)
        tasks = {
            "signs": np.sign(sentiment[train]).astype(np.int64) + 1,
            "seven": np.clip(np.rint(sentiment[train]), -3, 3).astype(np.int64) + 3,
        }
        n = len(np.unique(rows[rows > 0]))
        out["passing"][name] = {
            rule: {task: len(bias_words(rows, y, most=None, special=(0,), **kw)) / n for task, y in tasks.items()}
            for rule, kw in RULES.items()
        } | {"words": n}
        made |= {
            (name, rule): bias_words(rows, tasks["signs"], most=None, special=(0,), **kw) for rule, kw in RULES.items()
        }
    for source in corpora:
        for target, (texts, _, train) in corpora.items():
            held = [t for t, k in zip(texts, train) if not k] if target == source and not train.all() else texts
            flat = np.array([numbers[w] for row in held for w in row])
            of_lexicon = np.isin(flat, list(lexicon))
            kinds = np.unique(flat[of_lexicon])
            for rule in RULES:
                rows_of = []
                for most in MOST:
                    words = made[source, rule][:most]
                    hit = np.isin(flat, words)
                    shares = {"types": np.isin(kinds, words), "tokens": hit[of_lexicon], "all": hit}
                    rows_of.append({"most": most} | {k: x.mean() if len(x) else np.nan for k, x in shares.items()})
                out["covered"].setdefault(f"{source} to {target}", {})[rule] = rows_of
    return out


def padded(texts: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Ints:
    """Return word numbers (N, T), 0 after the end."""
    rows = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for i, t in enumerate(texts):
        rows[i, : len(t)] = [numbers[w] for w in t]
    return rows


# --- time ------------------------------------------------------------------------------------------------------------


def time_steps(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Executor: a constant, and beside it parameters and CPU seconds of a training step, model by model."""
    sizes = specs[0].options
    return _beside(
        specs, device, "step_times", lambda s: {m: step(m, sizes["samples"], sizes["shape"], s.seed) for m in TIMED}
    )


def step(name: str, samples: int, shape_name: str, seed: int) -> dict[str, float]:
    """Return parameters, and CPU seconds of forward and backward pass on samples of full length, the second of two."""
    found = SHAPES[shape_name]
    steps = found.steps if shape_name != "mosi" else dict.fromkeys(found.steps, 25)
    shape = Shape(found.dims, steps, THREE)
    torch.manual_seed(seed)
    settings = {"special": "text"} if name == "cider" else {}
    model = registry.build(name, shape, **settings).train()
    batch, progress = random_batch(shape, samples), Progress(1, 1, 10, 10)
    like = next(model.parameters()).detach()
    tape = Tape(like)
    with torch.no_grad():
        model(batch, tape)
    seconds = 0.0
    for i in range(2):
        noise = Pool(fill([seed], tape.words, like.device, "step", i)[0], like)
        start = time.process_time()
        terms, _ = model.losses(model(batch, noise), batch, progress)
        weights = model.weights(progress)
        sum((weights.get(k, 1.0) * v for k, v in terms.items()), like.new_zeros(())).sum().backward()
        seconds = time.process_time() - start
    return {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad), "seconds": seconds}
