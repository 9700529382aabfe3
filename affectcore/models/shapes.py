"""The shapes of data that the papers' own configurations meet, by name: what parameters are counted and steps timed on.

Features per modality are those after the papers' text encoder (BERT and its relatives give 768 numbers a token).
"""

from affectcore.data.schema import Task
from affectcore.models.contract import Shape

MODALITIES = ("text", "audio", "vision")
SENTIMENT = Task("regression", ("sentiment",), -3.0, 3.0)
THREE = Task("single_label", ("negative", "neutral", "positive"))
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


def _shape(dims: tuple[int, ...], steps: tuple[int, ...], task: Task = SENTIMENT) -> Shape:
    return Shape(dict(zip(MODALITIES, dims)), dict(zip(MODALITIES, steps)), task)


SHAPES: dict[str, Shape] = {
    "mosi": _shape((768, 5, 20), (50, 50, 50)),  # MMSA's aligned CMU-MOSI
    "mosi_mag": _shape((768, 74, 47), (50, 50, 50)),  # MAG-BERT's CMU-MOSI, of CmIR, C-MIB, ITHP
    "mosi_unaligned": _shape((768, 5, 20), (50, 500, 375)),  # MMSA's unaligned CMU-MOSI
    # GCNet's features of CMU-MOSI (DeBERTa, wav2vec, MA-Net): a row is an utterance, or a video of up to 63 utterances
    "mosi_utterances": _shape((1024, 512, 1024), (1, 1, 1)),
    "mosi_videos": _shape((1024, 512, 1024), (63, 63, 63)),
    "cider": _shape((768, 5, 20), (50, 375, 500), THREE),  # CIDer's unaligned CMU-MOSI
    "cider_mosei": _shape((768, 74, 35), (50, 500, 500), THREE),  # CIDer's unaligned CMU-MOSEI
    "mosei_classes": _shape((300, 74, 35), (50, 50, 50), Task("single_label", EMOTIONS)),  # Affect-Diff, GloVe
    "mosei": _shape((768, 74, 35), (50, 50, 50)),  # MMSA's aligned CMU-MOSEI
    "mosei_emotions": _shape((768, 74, 35), (50, 50, 50), Task("multi_label", EMOTIONS)),  # LDDU's logged run
    "mosei_emotions_glove": _shape((300, 74, 35), (60, 60, 60), Task("multi_label", EMOTIONS)),  # TAILOR, CARAT, HHMPN
}
