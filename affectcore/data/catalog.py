"""What data sets there are: what each holds, its terms, whether it is here, and where to get it. Needs no torch.

The sets lie below one folder: the one named by the environment variable AFFECTCORE_DATA, else the user's cache.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path

from affectcore.errors import ConfigError, DataError

VARIABLE = "AFFECTCORE_DATA"


@dataclass(frozen=True)
class Entry:
    """One data set.

    kind: "features" (`load` makes an AffectData), "labels" (`table` makes a data frame), "reference" (numbers only).
    n: samples. files: path below the root -> SHA-256, or None where no source states one.
    source: how to get it. traps: what the reader does by default so that nobody falls in, and what it cannot mend.
    """

    name: str
    description: str
    kind: str
    modalities: tuple[str, ...]
    level: str
    n: int
    labels: str
    groups: str
    licence: str
    source: str
    files: Mapping[str, str | None]
    traps: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        """Whether every file of the set exists below the root."""
        return all((root() / path).is_file() for path in self.files)


def root() -> Path:
    """Return the folder that holds the data sets; it need not exist."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    from pooch import os_cache

    return Path(os_cache("affectcore"))


def entry(name: str) -> Entry:
    """Return the entry of a data set. Raises ConfigError for an unknown name."""
    if name not in CATALOG:
        raise ConfigError(f"data set {name!r} is unknown: there are {', '.join(CATALOG)}")
    return CATALOG[name]


def locate(name: str, path: str | None = None) -> Path:
    """Return where one file of a set lies (its first file by default).

    Raises ConfigError for an unknown name, and DataError that says where to get the set when the file is not here.
    """
    known = entry(name)
    relative = path or next(iter(known.files))
    found = root() / relative
    if not found.is_file():
        raise DataError(f"{name}: {found} is not here; {known.source}; set {VARIABLE} to the folder that holds it")
    return found


def verify(name: str, folder: Path | None = None) -> list[str]:
    """Return one line per file of a set that is absent or has another SHA-256 than expected; none if all is well.

    folder: where the sets lie, `root()` by default.
    """
    lines = []
    for relative, expected in entry(name).files.items():
        path = (folder or root()) / relative
        if not path.is_file():
            lines.append(f"{path}: is not here")
        elif expected is not None:
            with path.open("rb") as f:
                found = file_digest(f, "sha256").hexdigest()
            if found != expected:
                lines.append(f"{path}: SHA-256 is {found}, expected {expected}")
    return lines


_FETCH = "`affectcore data fetch {}` rebuilds it from its public sources"
_CMU = "offered by CMU for academic research; the intermediary repositories state no licence for the data"
_ENTRIES = (
    Entry(
        "cmu_mosei_video",
        "CMU-MOSEI, pooled per video",
        "features",
        ("text", "audio", "vision"),
        "video",
        922,
        "sentiment [-3, 3]; 6 emotions, multi-label and intensity",
        "video, official folds 635/86/180 and 21 in none",
        _CMU,
        _FETCH.format("cmu_mosei_video"),
        {"cmu_mosei_video/features.npz": "b65e21b9345489f4f7b8bbbf53f9a058f09cd9e3bd1131d79c49233ee133a575"},
        (
            "audio column 7 (peakSlope) is -inf in 71 % of the rows: dropped",
            "vision columns 0 and 1 (face id, mean time stamp = half the video length) are shortcuts: dropped",
            "the source's own target, a mean over sentiment and emotions, is never offered",
            "text is cut at 128 word pieces; vision holds gaze and eye landmarks in pixels, no action units",
            "one vector per video: heads and fusion can be tested, sequence mechanisms cannot",
            "speaker identity is not published: a speaker may occur in two folds",
        ),
        {
            "target": "sentiment | sentiment_positive | emotions (share of segments >= 1/3)",
            "outside": "drop | train: what becomes of the 21 videos in no official fold",
        },
    ),
    Entry(
        "cmu_mosi_utt",
        "CMU-MOSI, one vector per utterance, or its words as a sequence",
        "features",
        ("text", "audio"),
        "utterance",
        2199,
        "sentiment [-3, 3]",
        "93 videos, standard split 1284/229/686",
        _CMU,
        _FETCH.format("cmu_mosi_utt"),
        {
            "cmu_mosi_utt/features.npz": "270886dd20cef5f0b3e34fcdd0975d18099f268b93c10f2fd1ae30a5b4470bb4",
            "cmu_mosi_utt/utterances.csv": "60ce19a866aa746659f0672612efa63e87ebcec3cdc99e1c59a20ad9272ae35a",
            "cmu_mosi_utt/words.npz": "fad7f3a1dd74f88596d4e806992028ebee95458751b1af6dc75e5401b861e8fa",
        },
        (
            "text_cnn and video were learned from the labels of 62 videos: left out, and with label_informed=True "
            "offered for the other 31 videos alone",
            "audio carries little (AUC .55 to .59): expect no gain from fusion",
        ),
        {
            "target": "sentiment | sentiment_nonnegative | sentiment_class7",
            "text": "glove (mean vector) | glove_words (sequence)",
            "max_words": "longest sequence of glove_words, in words",
            "label_informed": "add text_cnn and vision, on the 31 extractor-test videos alone",
        },
    ),
    Entry(
        "swell_kw",
        "SWELL-KW, office work under stress, per minute",
        "features",
        ("physiology", "facial", "computer", "posture"),
        "minute, or windows of consecutive minutes",
        3139,
        "condition (neutral, time pressure, interruptions), self-reports",
        "25 participants",
        "CC BY-NC-SA 4.0 (Koldijk et al. 2014, doi:10.17026/dans-x55-69zp)",
        _FETCH.format("swell_kw"),
        {"swell_kw/features.npz": "41b000229bed1aae57d9445f81a36b210346f3bd32707b573f77f61ac1dafef7"},
        (
            "modalities are really missing in 16, 6, 0 and 13 % of the minutes, in runs and in few participants: "
            "kept as observed masks",
            "minutes of relaxation before a block carry no self-report: dropped",
            "self-reports have 75 independent values: splits are by participant, never by minute",
            "levels differ between people: standardised per participant (label-free) by default",
            "posture carries no signal across participants (AUC .48): a real distractor",
        ),
        {
            "target": "stress_condition | condition | valence | arousal | stress_rating",
            "window": "consecutive minutes of one participant, block and condition per sample",
            "stride": "minutes between the starts of windows; the window's length by default",
            "standardise": "participant | none",
        },
    ),
    Entry(
        "crema_d_votes",
        "CREMA-D, votes of human raters per channel",
        "features",
        ("voice", "face"),
        "clip",
        7442,
        "intended emotion (6), audio-visual votes",
        "91 actors",
        "ODbL 1.0, contents DbCL",
        _FETCH.format("crema_d_votes"),
        {"crema_d_votes/votes.npz": "3465c7789b2ae1a9e411acf1bc56e83d47bb71fb51f5d0177669ec673ea83c09"},
        (
            "the audio-visual votes are a target, never an input",
            "inputs and yardstick share the raters' entropy: uncertainty counts only given the inputs' entropy",
            "percepts, not signals; the sentences are neutral and fixed, so there is no text",
        ),
        {"target": "intended | av_majority | av_labels (share of votes >= 0.2)"},
    ),
    Entry(
        "cmu_mosi_wordlevel",
        "CMU-MOSI valid fold, word level",
        "features",
        ("text", "audio", "vision"),
        "utterance as a sequence of words",
        229,
        "sentiment [-3, 3]",
        "10 videos",
        _CMU,
        _FETCH.format("cmu_mosi_wordlevel"),
        {"cmu_mosi_wordlevel/mosi_valid_words.npz": "ec836cc6d5542191eb283bbd0306f1239cfe68971e2d479670c5b98b63f170c7"},
        ("audio and vision are z-scored inside every utterance, their level is gone: for plumbing, never for claims",),
        {"target": "sentiment | sentiment_nonnegative | sentiment_class7"},
    ),
    Entry(
        "meld_text",
        "MELD, transcripts and labels",
        "features",
        ("text",),
        "utterance",
        13708,
        "7 emotions, 3 sentiments",
        "dialogue, speaker, official split 9989/1109/2610",
        "GPL-3.0 as stated by its repository (dialogue of the series Friends)",
        _FETCH.format("meld_text"),
        {"meld_text/utterances.csv.gz": "34811eaa16cececc76f06838c853e7657202e9ea15df83fd43abb6d53ef11237"},
        (
            "dialogue numbers restart in each split: groups join split and dialogue",
            "six main speakers (83 % of the training utterances) occur in all splits",
            "three time stamps are unusable",
        ),
        {
            "target": "emotion | sentiment",
            "components": "columns of text: latent semantic analysis of tf-idf, fitted on the training split",
        },
    ),
    Entry(
        "cmu_mosei_labels",
        "CMU-MOSEI label table (transcripts for valid and test)",
        "labels",
        (),
        "segment",
        23259,
        "sentiment, 6 emotion intensities",
        "video, official folds",
        _CMU,
        _FETCH.format("cmu_mosei_labels"),
        {"cmu_mosei_labels/segments.csv.gz": "05afa377b904931b7b7ce954b7cd9127076fac57e2d359d290f22892195bd7ba"},
        ("some video ids are numbers or begin with a dash: ids are strings, and nothing is read as missing",),
    ),
    Entry(
        "iemocap_labels",
        "IEMOCAP labels and lengths",
        "labels",
        (),
        "utterance",
        7433,
        "6 or 4 emotions",
        "dialogue, 10 speakers",
        "IEMOCAP: signed agreement; labels only",
        _FETCH.format("iemocap_labels"),
        {"label_tables/iemocap_labels.csv": "2a8f3cf7789e339bae9e659696e502a15f64bf6307177414e85801385f1f8683"},
        ("label4 is -1 for utterances that the four-class set leaves out",),
    ),
    Entry(
        "sims_labels",
        "CH-SIMS labels and lengths",
        "labels",
        (),
        "utterance",
        2281,
        "sentiment [-1, 1]",
        "video",
        "research; source Apache 2.0, non-commercial use",
        _FETCH.format("sims_labels"),
        {"label_tables/sims_labels.csv": "293dda1999ea2b47f79aa36ae347a9d927a5489d2611c07a36ba622b301be656"},
        ("the unimodal labels are not in this table",),
    ),
    Entry(
        "simsv2_labels",
        "CH-SIMS v2 labels and lengths",
        "labels",
        (),
        "utterance",
        4403,
        "sentiment [-1, 1]",
        "video",
        "research; source Apache 2.0, non-commercial use",
        _FETCH.format("simsv2_labels"),
        {"label_tables/simsv2_labels.csv": "c70c883d3faa2e5a37c6c6c0888499e9d90177de7bdfa79feff3e479e8a04c79"},
    ),
    Entry(
        "class_means",
        "Class-conditional feature means of CMU-MOSI and CMU-MOSEI",
        "reference",
        ("text", "audio", "vision"),
        "class",
        7,
        "3 or 7 sentiment classes",
        "-",
        "MIT (repository of CIDer)",
        _FETCH.format("class_means"),
        {"class_means/cider_class_means.npz": "6d0acd8a5c40cf0562dee379f1dad0d889ea84d8b162c90ddac8db012ae93058"},
        ("means of the padded time axis; audio distances are dominated by pitch",),
    ),
)


def _mmsa(name: str, what: str, n: int, path: str, sha: str | None, source: str, labels: str = "") -> Entry:
    return Entry(
        name,
        what,
        "features",
        ("text", "audio", "vision"),
        "utterance as sequences",
        n,
        labels or "sentiment [-3, 3]",
        "video",
        "academic research; not distributed by this project",
        source,
        {path: sha},
        (
            "read by the restricted unpickler: the file cannot run anything",
            "audio may hold -inf: refused unless nonfinite='zero'",
            "sequences of length 0 are refused unless zero_length='drop' or 'one_step'",
        ),
        {
            "target": "sentiment | sentiment_nonnegative | sentiment_class3 | sentiment_class7 | file_classes",
            "text": "auto | vectors | tokens",
            "nonfinite": "error | zero",
            "zero_length": "error | drop | one_step",
        },
    )


_SITE = "get it from the download links of the MMSA repository (thuiar/MMSA) and put it there"
_OOD = "get it from the Hugging Face data set GWZhong/MSA_OOD_Dataset_in_CIDer and put it there"
_CROSS = "get it from the feature release named in the README of CASP's repository and put it there"
_MMSA = [
    _mmsa("mmsa_mosi_aligned", "CMU-MOSI, MMSA features, word-aligned", 2199, "CMU-MOSI/Processed/aligned_50.pkl",
          "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9", _SITE),
    _mmsa("mmsa_mosi_unaligned", "CMU-MOSI, MMSA features, unaligned", 2199, "CMU-MOSI/Processed/unaligned_50.pkl",
          "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524", _SITE),
    _mmsa("mmsa_mosei_aligned", "CMU-MOSEI, MMSA features, word-aligned", 22856, "CMU-MOSEI/Processed/aligned_50.pkl",
          "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791", _SITE),
    _mmsa("mmsa_mosei_unaligned", "CMU-MOSEI, MMSA features, unaligned (about 13.7 GB)", 22856,
          "CMU-MOSEI/Processed/unaligned_50.pkl",
          "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f", _SITE),
    _mmsa("mmsa_sims_unaligned", "CH-SIMS, MMSA features, unaligned, with unimodal labels", 2281,
          "SIMS/Processed/unaligned_39.pkl", None, _SITE, "sentiment [-1, 1], and per modality"),
    *(
        _mmsa(f"cider_{c}_ood_{task}_{form}", f"CMU-{c.upper()}, CIDer's shifted split ({task} classes, {form})", n,
              f"OOD_{c.upper()}/{task}/{c.upper()}_{form}_50.pkl", None, _OOD)
        for c, n in (("mosi", 2199), ("mosei", 22856))
        for task in ("binary", "seven")
        for form in ("aligned", "unaligned")
    ),
    *(
        _mmsa(f"cross_{corpus}", f"CMU-{corpus.upper()}, features shared by both corpora for cross-corpus tests", n,
              f"MSA_cross_datasets/{corpus}.pkl", None, _CROSS)
        for corpus, n in (("mosi", 2181), ("mosei", 22740))
    ),
]  # fmt: skip

CATALOG: dict[str, Entry] = {e.name: e for e in (*_ENTRIES, *_MMSA)}
