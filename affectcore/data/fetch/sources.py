"""Where the public files come from: repository, commit, path and SHA-256 of each, pinned.

Some of the repositories state no licence; `DATA_LICENSES.md` says what each set allows. Nothing is redistributed:
`affectcore data fetch` downloads from the named place to the user's own cache.
"""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One public file: `path` in `repository` at `commit`, and the SHA-256 of its bytes."""

    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def url_path(self) -> str:
        """Path below the download host, unquoted."""
        return f"{self.repository}/{self.commit}/{self.path}"


_POOLED = (
    "JugalGajjar/Multimodal-Sentiment-Analysis-with-MOSEI-Dataset",
    "997fc1610356c1e2e8e8c02fdfb30e6afa4cfb42",
)
_LABELS = (
    "sudoDinesh/Multichannel-Cross-Modal-Fusion-Network-for-Multimodal-Sentiment-Analysis",
    "d4ce0bddb3282a956fbb6089daed372671006d55",
)
_LABELS_LATER = (
    "sudoDinesh/Multichannel-Cross-Modal-Fusion-Network-for-Multimodal-Sentiment-Analysis",
    "c2e9947563ae3f5bd1cb1456c3649b31fd381316",
)
_SDK = ("CMU-MultiComp-Lab/CMU-MultimodalSDK", "4f2eadcd7e7b9e20e83b868cdad385b41830285c")
_UTTERANCES = (
    "declare-lab/contextual-utterance-level-multimodal-sentiment-analysis",
    "3874cf25a7fbda75df27ee65b297afa781d7f32c",
)
_GCNET = ("zeroQiaoba/GCNet", "8cce4a0c9a50172abfa79971e77c71c40c1d733d")
_MISA = ("Gautam-Gandhi/Multimodal-Sentiment-Analysis", "a8d0f2e5c2b35f761ddb1a0a7e804f5e9e9cccd3")
_SWELL = (
    "Nimeshs54/Sensor-Based-Human-Activity-Recognition-for-Intelligent",
    "da57e62062552bdc39033eff31f6ddefa01bdb11",
)
_CREMA = ("CheyneyComputerScience/CREMA-D", "1658cd342dff90010aa843eaeebd53610a08b1dc")
_MELD = ("declare-lab/MELD", "2d2011b409d3ca2d7e94460cd007d434b1d0a102")
_CIDER = ("gw-zhong/CIDer", "2f86cbebc4cbc58906437036e178b94b4d9fd01e")
_MERTOOLS = ("zeroQiaoba/MERTools", "89120b780ab18b28349f0e37dcc12b8cc253cb02")

MOSEI_POOLED_TEST = Source(
    *_POOLED,
    "data/processed/CMU_MOSEI/test_data.pkl",
    "0e3ecd2b723c593f76017d54c350ad2a1d318298ca04da74b5fb335c1a6b17d7",
)
MOSEI_POOLED_VALID = Source(
    *_POOLED,
    "data/processed/CMU_MOSEI/val_data.pkl",
    "85c7e530fc1183dbedf4e706a0b77e632ba1b598997c6e86b6ab95d0d08cd81a",
)
MOSEI_LABELS = Source(
    *_LABELS,
    "mosei_labels.csv",
    "6fcead2cccdb9f6d12e7add44bb3d2695bd90f2629d3439942e291d1f4213f5c",
)
MOSEI_TEXT_VALID = Source(
    *_LABELS_LATER,
    "mosei/CMU-MOSEI-20230514T151450Z-001/CMU-MOSEI/Labels/Data_Val_original_without_neg_time.csv",
    "2aba3ff031be971a22c6a80cef668d0702b75d24126d5f62d8f4873d02a651c3",
)
MOSEI_TEXT_TEST = Source(
    *_LABELS_LATER,
    "mosei/CMU-MOSEI-20230514T151450Z-001/CMU-MOSEI/Labels/Data_Test_original_without_neg_time.csv",
    "bc2c6c3b54b513597b86367aba609a1ae2cdf8374264bb504142198f98d4331a",
)
MOSEI_FOLDS = Source(
    *_SDK,
    "mmsdk/mmdatasdk/dataset/standard_datasets/CMU_MOSEI/cmu_mosei_std_folds.py",
    "4e13a2f538cf02ab56144eb2a91ca48a4024ce64faaae790ab9ff1c3f399b473",
)
MOSI_TIMES = Source(
    *_LABELS_LATER,
    "dataset/CMU_MOSI_Labels.csd",
    "aef5f4617cdb067cc7606bb798eb6452c3de45f0f21cb3427be33c4d8c7fe852",
)
MOSI_TRANSCRIPTS = Source(
    *_UTTERANCES,
    "data/transcripts.csv",
    "e7689e6d70720addd2a6b316419d245a68839c32b014ff426c406063ee777466",
)
MOSI_ROWS_TRAIN = Source(
    *_UTTERANCES,
    "data/text_train.csv",
    "73770b6302ad0f7a51f4eddcae6788efde4d0b6802e09f78249d5b538d1c1d67",
)
MOSI_ROWS_TEST = Source(
    *_UTTERANCES,
    "data/text_test.csv",
    "f3b735070bf07ceff7a6ef6c8f4c32757e988de484e35bd6d38b2aecef851a59",
)
MOSI_TEXT_TRAIN = Source(
    *_UTTERANCES,
    "data/text/text_train0.csv",
    "cc327045db6cc361a08b4037b97bb24de4ddb5efb381468c4835cc4a60674668",
)
MOSI_TEXT_TEST = Source(
    *_UTTERANCES,
    "data/text/text_test0.csv",
    "a343e22272919d1384c2075dbcdd5fef5aa9f9366b0552a83f7c3147b64b047a",
)
MOSI_AUDIO_TRAIN = Source(
    *_UTTERANCES,
    "data/audio/audio_train0.csv",
    "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1",
)
MOSI_AUDIO_TEST = Source(
    *_UTTERANCES,
    "data/audio/audio_test0.csv",
    "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6",
)
MOSI_VIDEO_TRAIN = Source(
    *_UTTERANCES,
    "data/video/video_train0.csv",
    "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f",
)
MOSI_VIDEO_TEST = Source(
    *_UTTERANCES,
    "data/video/video_test0.csv",
    "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f",
)
MOSI_REAL_LABELS = Source(
    *_GCNET,
    "dataset/CMUMOSI/CMUMOSI_features_raw_2way.pkl",
    "931ee50f3a77b2eb18786840a880a439f3ae6542bf2dfb5e14ecc9690702af84",
)
MOSI_GLOVE = Source(
    *_MISA,
    "data/MOSI/embedding_and_mapping.pt",
    "025665821de9b5ed35dbaf7827dcb60fdaba06d607f7fe303ff7fb515e0f96d1",
)
MOSI_WORDS_VALID = Source(
    *_MISA,
    "data/MOSI/dev.pkl",
    "d4405ac91f62a807be9ff8dc4a92a7cbbf9735f0b6032649077d2e7500cf7076",
)
SWELL = Source(
    *_SWELL,
    "Behavioral-features - per minute.csv",
    "c280182232d1b85fd2407113232db12b9a5caaf319b95e414151785542fb9126",
)
CREMA_VOTES = Source(
    *_CREMA,
    "processedResults/tabulatedVotes.csv",
    "774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b",
)
CREMA_ACTORS = Source(
    *_CREMA,
    "VideoDemographics.csv",
    "e33ddc8b60bedf98541735801127cbb67098b5957271adbdd5dea8a44294eec3",
)
MELD_TRAIN = Source(
    *_MELD,
    "data/MELD/train_sent_emo.csv",
    "d2fa2d6529cf03cac2989efec05c9b27d8fd2f4c8fc5974c7ae88aa537fa02db",
)
MELD_VALID = Source(
    *_MELD,
    "data/MELD/dev_sent_emo.csv",
    "2e89c6f8aa182d6f62f8c6331aece905ac7273ca4999660bfb5213e1d0370c1c",
)
MELD_TEST = Source(
    *_MELD,
    "data/MELD/test_sent_emo.csv",
    "8d37103938f7067600839fe29d5a114a6cd1bcdafb75bec101e06464c5006888",
)
IEMOCAP_FOUR = Source(
    *_GCNET,
    "dataset/IEMOCAP/IEMOCAP_features_raw_4way.pkl",
    "072cffa9c528dd0536792de7ac85d5a0efaf25d4a9e3ed01f7e45453547cc9fd",
)
IEMOCAP_SIX = Source(
    *_GCNET,
    "dataset/IEMOCAP/IEMOCAP_features_raw_6way.pkl",
    "e35143e9f087d436779cccd650cb0327e9caa55178d326330f4a8a914e91e023",
)
SIMS_LABELS = Source(
    *_MERTOOLS,
    "MERBench/dataset/sims-process/label.npz",
    "55b5708d2493c8a2653cb9e0a0a585320bfaf29f25eb26898e99441619c656b5",
)
SIMS_TEXT = Source(
    *_MERTOOLS,
    "MERBench/dataset/sims-process/transcription-engchi-polish.csv",
    "e3e7d327b8ecfb2b8624bb6430153550b17c66b8baceca8fca3d58d8ceaaf16a",
)
SIMSV2_LABELS = Source(
    *_MERTOOLS,
    "MERBench/dataset/simsv2-process/label.npz",
    "6611a787648198fae4d9588be32d75ac17b674b7e40b0f448812e16697989883",
)
SIMSV2_TEXT = Source(
    *_MERTOOLS,
    "MERBench/dataset/simsv2-process/transcription-engchi-polish.csv",
    "ebf167aa78eca31269df229ac1cd23602a4f86d02cc7b81aa941ebf167ff0462",
)
CLASS_MEANS = tuple(
    Source(*_CIDER, path, sha256)
    for path, sha256 in json.loads(Path(__file__).with_name("class_means.json").read_text()).items()
)
