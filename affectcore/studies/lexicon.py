"""How far a lexical re-split moves a corpus: aggregates only, no word and no id.

    python -m affectcore.studies.lexicon  # results/protocols/lexical_shift.json, from the MOSI transcripts

`report` takes any corpus with tokens; `made_up` makes one, for machines without the transcripts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affectcore import streams
from affectcore.data import shift

DIALS = {  # word shift to reach, per series; "not centred" counts in its own, larger unit
    "words": (0.14, 0.16, 0.18, 0.2, 0.225, 0.25, 0.28),
    "words and labels": (0.14, 0.16, 0.18, 0.2, 0.225, 0.25, 0.28),
    "not centred": (0.2, 0.25, 0.3, 0.35, 0.4, 0.45),
}
BINS = 10


@dataclass(frozen=True)
class Corpus:
    """tokens: word numbers per row; sentiment (N,); vectors (N, D): text features; test (N,) bool; group (N,)."""

    tokens: Sequence[NDArray[np.integer]]
    sentiment: NDArray[np.floating]
    vectors: NDArray[np.floating]
    test: NDArray[np.bool_]
    group: NDArray[np.integer]


def mosi() -> Corpus:
    """Return the utterances of CMU-MOSI in their standard split; raises DataError where the data are not present."""
    from affectcore.data.readers import load

    data = load("cmu_mosi_utt")
    b = data._all
    test = np.isin(np.arange(len(data)), data._rows["test"].numpy())
    return Corpus(shift.tokens_of(data), b.target.numpy(), b.features["text"][:, 0].numpy(), test, data.group.numpy())


def made_up(n: int = 800, words: int = 250, seed: int = 0) -> Corpus:
    """Return a made-up corpus: word frequencies after Zipf, a third of the words lean to a sign, 20 rows a speaker."""
    r = streams.rng(seed, "made-up lexicon")
    sentiment = np.where(r.random(n) < 0.04, 0.0, r.choice([-1, 1], n) * r.uniform(0.2, 3, n))
    lean = np.where(r.random(words) < 1 / 3, r.normal(0, 0.8, words), 0)
    meaning = r.normal(size=(words, 16)) + 2 * lean[:, None] * r.normal(size=16)
    tokens = []
    for y in np.sign(sentiment):
        p = np.exp(lean * y) / np.arange(3, words + 3)
        tokens.append(r.choice(words, r.integers(4, 20), p=p / p.sum()))
    vectors = np.stack([meaning[t].mean(0) for t in tokens])
    return Corpus(tokens, sentiment, vectors, np.arange(n) >= n * 11 // 16, np.arange(n) // 20)


def turned(corpus: Corpus) -> tuple[int, int, int]:
    """Return class counts for test with a tenth of its negative rows made positive: a label shift for small corpora."""
    a, b, c = np.bincount(shift.sign_classes(corpus.sentiment[corpus.test]), minlength=3).tolist()
    return a - a // 10, b, c + a // 10


@dataclass(frozen=True)
class Measured:
    """One split. Others: see `affectcore.data.shift`.

    accuracy: signs of the non-neutral test rows by logistic regression on word presence (C = 0.3), fitted on everything
    that is not test; accuracy_vectors: the same on standardised text features (C = 0.01); floor: the better constant.
    lengths: mean number of distinct words of negative and positive rows, of the rest and then of test.
    """

    shift: float
    shift_uncentred: float
    counts: tuple[int, ...]
    lengths: tuple[float, ...]
    accuracy: float
    accuracy_vectors: float
    floor: float
    label_variation: float
    distance_rest: float
    distance_test: float
    direction_kept: float
    overlap: float


def measure(corpus: Corpus, test: NDArray[np.bool_]) -> Measured:
    """Return what a split does to the words, the labels, the features and a model that reads words alone."""
    positive, negative = corpus.sentiment > 0, corpus.sentiment < 0
    classes, x = shift.sign_classes(corpus.sentiment), shift.incidence(corpus.tokens)
    fit, score = ~test & (positive | negative), test & (positive | negative)
    model = LogisticRegression(C=0.3, max_iter=2000).fit(x[fit], positive[fit])
    dense = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    dense.fit(corpus.vectors[fit], positive[fit])
    words = x.sum(1)
    counts = np.bincount(classes[test], minlength=3)
    return Measured(
        shift.word_shift(corpus.tokens, positive, test),
        shift.word_shift(corpus.tokens, positive, test, centred=False),
        tuple(counts.tolist()),
        tuple(float(words[side & sign].mean()) for side in (~test, test) for sign in (negative, positive)),
        float(model.score(x[score], positive[score])),
        float(dense.score(corpus.vectors[score], positive[score])),
        float(max(counts[0], counts[2]) / (counts[0] + counts[2])),
        shift.total_variation(counts, np.bincount(classes[~test], minlength=3)),
        shift.class_mean_distance(corpus.vectors, positive & ~test, negative & ~test),
        shift.class_mean_distance(corpus.vectors, positive & test, negative & test),
        shift.class_direction_kept(corpus.vectors, positive, negative, test),
        shift.group_overlap(corpus.group[~test], corpus.group[test]),
    )


def random_split(corpus: Corpus, seed: int) -> NDArray[np.bool_]:
    """Return a random test part with the class counts of the corpus's own."""
    r, classes = streams.rng(seed, "random split"), shift.sign_classes(corpus.sentiment)
    test = corpus.test.copy()
    for c in np.unique(classes):
        test[classes == c] = r.permutation(test[classes == c])
    return test


def associations(corpus: Corpus, test: NDArray[np.bool_]) -> list[list[float]]:
    """Return the share of word weight per cell of (p_rest(positive | word), p_test(positive | word)), BINS x BINS.

    Words of five rows or more that occur on both sides, weighted by their rows.
    """
    positive = corpus.sentiment > 0
    sides = [
        shift.word_label_table([t for t, k in zip(corpus.tokens, part) if k], positive[part]) for part in (~test, test)
    ]
    both = sides[0].add_suffix("_rest").join(sides[1].add_suffix("_test"), how="inner")
    weight = both.count_rest + both.count_test
    both, weight = both[weight >= 5], weight[weight >= 5]
    grid, _, _ = np.histogram2d(both.share_rest, both.share_test, bins=BINS, range=[[0, 1], [0, 1]], weights=weight)
    return [[float(cell) for cell in row] for row in grid / grid.sum()]


def report(
    corpus: Corpus,
    *,
    dials: Mapping[str, Sequence[float]] = DIALS,
    seeds: int = 10,
    random_splits: int = 100,
    test_counts: Sequence[int] = shift.CIDER_MOSI_TEST,
    moves: int = 200_000,
    to_the_end: int = 0,
) -> dict[str, Any]:
    """Return the standard split, random splits and annealed ones at every dial, as plain numbers.

    dials: per series, the shifts to reach. Series: "words", the centred energy; "words and labels", the same with the
    class counts test_counts; "not centred", the energy without that. to_the_end: seeds for which annealing also runs
    through all `moves`. The associations shown are those of a series' middle dial, seed 0.
    """
    classes = shift.sign_classes(corpus.sentiment)
    options: dict[str, dict[str, Any]] = {
        "words": {},
        "words and labels": {"test_counts": test_counts},
        "not centred": {"centred": False},
    }
    dial, shown = [], {}
    for name, untils in dials.items():
        for until in (*untils, 1.0):
            for seed in range(seeds if until < 1 else to_the_end):
                found = shift.anneal(
                    corpus.tokens, classes, corpus.test, seed=seed, until=until, moves=moves, **options[name]
                )
                dial.append({"series": name, "until": until, "seed": seed, **asdict(measure(corpus, found.test))})
                if (until, seed) == (untils[len(untils) // 2], 0):
                    shown[name] = associations(corpus, found.test)
    return {
        "rows": len(classes),
        "test_rows": int(corpus.test.sum()),
        "words": int((shift.incidence(corpus.tokens).sum(0) >= 5).sum()),
        "standard": asdict(measure(corpus, corpus.test)),
        "random": [asdict(measure(corpus, random_split(corpus, s))) for s in range(random_splits)],
        "dial": dial,
        "associations": {
            "random": associations(corpus, random_split(corpus, 0)),
            **shown,
        },
    }


def rounded(value: Any, digits: int = 4) -> Any:
    """Return the nested lists and dictionaries with every float rounded."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    return round(value, digits) if isinstance(value, float) else value


def main() -> None:
    """Compute the committed aggregates of the real transcripts; a minute or two."""
    from affectcore.studies.results import results_folder

    file = results_folder() / "protocols" / "lexical_shift.json"
    found = rounded(report(mosi(), to_the_end=2))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{file}.partial")
    partial.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace('{"', '\n{"') + "\n", "utf-8")
    partial.replace(file)
    print(f"{file.name}: {len(found['dial'])} re-splits of {found['rows']} rows")


if __name__ == "__main__":
    main()
