"""BibTeX of the models' sources, by citation key."""

BIBTEX: dict[str, str] = {
    "zadeh2017tensor": """@inproceedings{zadeh2017tensor,
  title = {Tensor Fusion Network for Multimodal Sentiment Analysis},
  author = {Zadeh, Amir and Chen, Minghai and Poria, Soujanya and Cambria, Erik and Morency, Louis-Philippe},
  booktitle = {Proceedings of the 2017 Conference on Empirical Methods in Natural Language Processing},
  pages = {1103--1114},
  year = {2017},
  doi = {10.18653/v1/D17-1115}
}""",
    "liu2018efficient": """@inproceedings{liu2018efficient,
  title = {Efficient Low-rank Multimodal Fusion With Modality-Specific Factors},
  author = {Liu, Zhun and Shen, Ying and Lakshminarasimhan, Varun Bharadhwaj and Liang, Paul Pu and
            Bagher Zadeh, AmirAli and Morency, Louis-Philippe},
  booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics (Volume 1: Long
               Papers)},
  pages = {2247--2256},
  year = {2018},
  doi = {10.18653/v1/P18-1209}
}""",
    "tsai2019multimodal": """@inproceedings{tsai2019multimodal,
  title = {Multimodal Transformer for Unaligned Multimodal Language Sequences},
  author = {Tsai, Yao-Hung Hubert and Bai, Shaojie and Liang, Paul Pu and Kolter, J. Zico and
            Morency, Louis-Philippe and Salakhutdinov, Ruslan},
  booktitle = {Proceedings of the 57th Annual Meeting of the Association for Computational Linguistics},
  pages = {6558--6569},
  year = {2019},
  doi = {10.18653/v1/P19-1656}
}""",
    "affectdiff": """@misc{affectdiff,
  title = {Multimodal Emotion Recognition via Causal-Diffusion Bridge ({Affect-Diff})},
  author = {Sanjyal, Ankit},
  year = {2026},
  howpublished = {arXiv:2605.08252},
  url = {https://arxiv.org/abs/2605.08252}
}""",
}
