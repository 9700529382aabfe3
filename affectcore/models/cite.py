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
    "hazarika2020misa": """@inproceedings{hazarika2020misa,
  title = {{MISA}: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis},
  author = {Hazarika, Devamanyu and Zimmermann, Roger and Poria, Soujanya},
  booktitle = {Proceedings of the 28th ACM International Conference on Multimedia},
  pages = {1122--1131},
  year = {2020},
  doi = {10.1145/3394171.3413678}
}""",
    "yu2021learning": """@inproceedings{yu2021learning,
  title = {Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal Sentiment
           Analysis},
  author = {Yu, Wenmeng and Xu, Hua and Yuan, Ziqi and Wu, Jiele},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {35},
  pages = {10790--10797},
  year = {2021}
}""",
    "han2021improving": """@inproceedings{han2021improving,
  title = {Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for Multimodal Sentiment
           Analysis},
  author = {Han, Wei and Chen, Hui and Poria, Soujanya},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  pages = {9180--9192},
  year = {2021}
}""",
    "wang2023tetfn": """@article{wang2023tetfn,
  title = {{TETFN}: A text enhanced transformer fusion network for multimodal sentiment analysis},
  author = {Wang, Di and Guo, Xutong and Tian, Yumin and Liu, Jinhui and He, LiHuo and Luo, Xuemei},
  journal = {Pattern Recognition},
  volume = {136},
  year = {2023},
  doi = {10.1016/j.patcog.2022.109259}
}""",
    "zhao2021missing": """@inproceedings{zhao2021missing,
  title = {Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing Modalities},
  author = {Zhao, Jinming and Li, Ruichen and Jin, Qin},
  booktitle = {Proceedings of the 59th Annual Meeting of the Association for Computational Linguistics and the 11th
               International Joint Conference on Natural Language Processing (Volume 1: Long Papers)},
  pages = {2608--2618},
  year = {2021},
  doi = {10.18653/v1/2021.acl-long.203}
}""",
    "lian2023gcnet": """@article{lian2023gcnet,
  title = {{GCNet}: Graph Completion Network for Incomplete Multimodal Learning in Conversation},
  author = {Lian, Zheng and Chen, Lan and Sun, Licai and Liu, Bin and Tao, Jianhua},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {45},
  number = {7},
  pages = {8419--8432},
  year = {2023},
  url = {https://arxiv.org/abs/2203.02177}
}""",
    "pham2019found": """@inproceedings{pham2019found,
  title = {Found in Translation: Learning Robust Joint Representations by Cyclic Translations Between Modalities},
  author = {Pham, Hai and Liang, Paul Pu and Manzini, Thomas and Morency, Louis-Philippe and
            P{\\'o}czos, Barnab{\\'a}s},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {33},
  year = {2019},
  url = {https://arxiv.org/abs/1812.07809}
}""",
    "yuan2021transformer": """@inproceedings{yuan2021transformer,
  title = {Transformer-based Feature Reconstruction Network for Robust Multimodal Sentiment Analysis},
  author = {Yuan, Ziqi and Li, Wei and Xu, Hua and Yu, Wenmeng},
  booktitle = {Proceedings of the 29th ACM International Conference on Multimedia},
  pages = {4400--4407},
  year = {2021},
  doi = {10.1145/3474085.3475585}
}""",
    "sun2023efficient": """@article{sun2023efficient,
  title = {Efficient Multimodal Transformer with Dual-Level Feature Restoration for Robust Multimodal Sentiment
           Analysis},
  author = {Sun, Licai and Lian, Zheng and Liu, Bin and Tao, Jianhua},
  journal = {IEEE Transactions on Affective Computing},
  year = {2023},
  note = {arXiv:2208.07589}
}""",
    "yuan2023noise": """@article{yuan2023noise,
  title = {Noise Imitation Based Adversarial Training for Robust Multimodal Sentiment Analysis},
  author = {Yuan, Ziqi and Liu, Yihe and Xu, Hua and Gao, Kai},
  journal = {IEEE Transactions on Multimedia},
  year = {2023},
  url = {https://ieeexplore.ieee.org/document/10103636}
}""",
    "zhang2024towards": """@inproceedings{zhang2024towards,
  title = {Towards Robust Multimodal Sentiment Analysis with Incomplete Data},
  author = {Zhang, Haoyu and Wang, Wenbin and Yu, Tianshu},
  booktitle = {The Thirty-eighth Annual Conference on Neural Information Processing Systems},
  year = {2024},
  note = {arXiv:2409.20012}
}""",
    "guo2024multimodal": """@inproceedings{guo2024multimodal,
  title = {Multimodal Prompt Learning with Missing Modalities for Sentiment Analysis and Emotion Recognition},
  author = {Guo, Zirun and Jin, Tao and Zhao, Zhou},
  booktitle = {Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics (Volume 1: Long
               Papers)},
  pages = {1726--1736},
  year = {2024}
}""",
    "affectdiff": """@misc{affectdiff,
  title = {Multimodal Emotion Recognition via Causal-Diffusion Bridge ({Affect-Diff})},
  author = {Sanjyal, Ankit},
  year = {2026},
  howpublished = {arXiv:2605.08252},
  url = {https://arxiv.org/abs/2605.08252}
}""",
    "lddu": """@misc{lddu,
  title = {Latent Distribution Decoupling: A Probabilistic Framework for Uncertainty-Aware Multimodal Emotion
           Recognition},
  author = {Huang, Jingwang and Zhong, Jiang and Lei, Qin and Gao, Jinpeng and Yang, Yuming and Wang, Sirui and
            Li, Peiguang and Wei, Kaiwen},
  year = {2025},
  howpublished = {Findings of ACL 2025; arXiv:2502.13954},
  url = {https://arxiv.org/abs/2502.13954}
}""",
    "cmir": """@misc{cmir,
  title = {Learning Invariant Modality Representation for Robust Multimodal Learning from a Causal Inference
           Perspective},
  author = {Mai, Sijie and Han, Shiqin},
  year = {2026},
  howpublished = {ACL 2026, pages 45698--45721; arXiv:2604.18460},
  url = {https://arxiv.org/abs/2604.18460}
}""",
    "peng2024carat": """@inproceedings{peng2024carat,
  title = {{CARAT}: Contrastive Feature Reconstruction and Aggregation for Multi-Modal Multi-Label Emotion Recognition},
  author = {Peng, Cheng and Chen, Ke and Shou, Lidan and Chen, Gang},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2024},
  url = {https://arxiv.org/abs/2312.10201}
}""",
    "zhang2022tailor": """@inproceedings{zhang2022tailor,
  title = {Tailor Versatile Multi-modal Learning for Multi-label Emotion Recognition},
  author = {Zhang, Yi and Chen, Mingyuan and Shen, Jundong and Wang, Chongjun},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2022},
  url = {https://arxiv.org/abs/2201.05834}
}""",
    "cider": """@misc{cider,
  title = {Towards Robust Multimodal Emotion Recognition under Missing Modalities and Distribution Shifts},
  author = {Zhong, Guowei and Huan, Ruohong and Wu, Mingzhen and Liang, Ronghua and Chen, Peng},
  year = {2025},
  howpublished = {arXiv:2506.10452},
  url = {https://arxiv.org/abs/2506.10452}
}""",
    "vapnik1998statistical": """@book{vapnik1998statistical,
  title = {Statistical Learning Theory},
  author = {Vapnik, Vladimir N.},
  publisher = {Wiley},
  year = {1998}
}""",
    "arjovsky2019invariant": r"""@misc{arjovsky2019invariant,
  title = {Invariant Risk Minimization},
  author = {Arjovsky, Martin and Bottou, L{\'e}on and Gulrajani, Ishaan and Lopez-Paz, David},
  year = {2019},
  howpublished = {arXiv:1907.02893},
  url = {https://arxiv.org/abs/1907.02893}
}""",
    "krueger2021out": """@inproceedings{krueger2021out,
  title = {Out-of-Distribution Generalization via Risk Extrapolation ({REx})},
  author = {Krueger, David and Caballero, Ethan and Jacobsen, Joern-Henrik and Zhang, Amy and Binas, Jonathan and
            Zhang, Dinghuai and Le Priol, Remi and Courville, Aaron},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  year = {2021},
  url = {https://arxiv.org/abs/2003.00688}
}""",
    "ahuja2021invariance": """@inproceedings{ahuja2021invariance,
  title = {Invariance Principle Meets Information Bottleneck for Out-of-Distribution Generalization},
  author = {Ahuja, Kartik and Caballero, Ethan and Zhang, Dinghuai and Gagnon-Audet, Jean-Christophe and
            Bengio, Yoshua and Mitliagkas, Ioannis and Rish, Irina},
  booktitle = {Advances in Neural Information Processing Systems 34},
  year = {2021},
  url = {https://arxiv.org/abs/2106.06607}
}""",
    "sagawa2020distributionally": """@inproceedings{sagawa2020distributionally,
  title = {Distributionally Robust Neural Networks for Group Shifts: On the Importance of Regularization for
           Worst-Case Generalization},
  author = {Sagawa, Shiori and Koh, Pang Wei and Hashimoto, Tatsunori B. and Liang, Percy},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
  url = {https://arxiv.org/abs/1911.08731}
}""",
    "sun2016deep": """@inproceedings{sun2016deep,
  title = {Deep {CORAL}: Correlation Alignment for Deep Domain Adaptation},
  author = {Sun, Baochen and Saenko, Kate},
  booktitle = {Computer Vision -- ECCV 2016 Workshops},
  year = {2016},
  url = {https://arxiv.org/abs/1607.01719}
}""",
    "creager2021environment": r"""@inproceedings{creager2021environment,
  title = {Environment Inference for Invariant Learning},
  author = {Creager, Elliot and Jacobsen, J{\"o}rn-Henrik and Zemel, Richard},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  year = {2021},
  url = {https://arxiv.org/abs/2010.07249}
}""",
    "zhang2018mixup": """@inproceedings{zhang2018mixup,
  title = {mixup: Beyond Empirical Risk Minimization},
  author = {Zhang, Hongyi and Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  url = {https://arxiv.org/abs/1710.09412}
}""",
    "liang2021rdrop": """@inproceedings{liang2021rdrop,
  title = {{R-Drop}: Regularized Dropout for Neural Networks},
  author = {Liang, Xiaobo and Wu, Lijun and Li, Juntao and Wang, Yue and Meng, Qi and Qin, Tao and Chen, Wei and
            Zhang, Min and Liu, Tie-Yan},
  booktitle = {Advances in Neural Information Processing Systems 34},
  year = {2021},
  url = {https://arxiv.org/abs/2106.14448}
}""",
    "lin2017focal": r"""@inproceedings{lin2017focal,
  title = {Focal Loss for Dense Object Detection},
  author = {Lin, Tsung-Yi and Goyal, Priya and Girshick, Ross and He, Kaiming and Doll{\'a}r, Piotr},
  booktitle = {Proceedings of the IEEE International Conference on Computer Vision},
  year = {2017},
  url = {https://arxiv.org/abs/1708.02002}
}""",
    "menon2021longtail": """@inproceedings{menon2021longtail,
  title = {Long-tail learning via logit adjustment},
  author = {Menon, Aditya Krishna and Jayasumana, Sadeep and Rawat, Ankit Singh and Jain, Himanshu and Veit, Andreas and
            Kumar, Sanjiv},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  url = {https://arxiv.org/abs/2007.07314}
}""",
    "ren2020balanced": """@inproceedings{ren2020balanced,
  title = {Balanced Meta-Softmax for Long-Tailed Visual Recognition},
  author = {Ren, Jiawei and Yu, Cunjun and Sheng, Shunan and Ma, Xiao and Zhao, Haiyu and Yi, Shuai and Li, Hongsheng},
  booktitle = {Advances in Neural Information Processing Systems 33},
  year = {2020},
  url = {https://arxiv.org/abs/2007.10740}
}""",
    "szegedy2016rethinking": """@inproceedings{szegedy2016rethinking,
  title = {Rethinking the Inception Architecture for Computer Vision},
  author = {Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jon and Wojna, Zbigniew},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2016},
  url = {https://arxiv.org/abs/1512.00567}
}""",
    "lakshminarayanan2017simple": """@inproceedings{lakshminarayanan2017simple,
  title = {Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles},
  author = {Lakshminarayanan, Balaji and Pritzel, Alexander and Blundell, Charles},
  booktitle = {Advances in Neural Information Processing Systems 30},
  year = {2017},
  url = {https://arxiv.org/abs/1612.01474}
}""",
    "gal2016dropout": """@inproceedings{gal2016dropout,
  title = {Dropout as a {Bayesian} Approximation: Representing Model Uncertainty in Deep Learning},
  author = {Gal, Yarin and Ghahramani, Zoubin},
  booktitle = {Proceedings of the 33rd International Conference on Machine Learning},
  pages = {1050--1059},
  year = {2016},
  url = {https://arxiv.org/abs/1506.02142}
}""",
    "devlin2019bert": """@inproceedings{devlin2019bert,
  title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of the 2019 Conference of the North American Chapter of the Association for Computational
               Linguistics: Human Language Technologies, Volume 1 (Long and Short Papers)},
  pages = {4171--4186},
  year = {2019},
  doi = {10.18653/v1/N19-1423}
}""",
    "zhang2021hhmpn": """@inproceedings{zhang2021hhmpn,
  title = {Multi-modal Multi-label Emotion Recognition with Heterogeneous Hierarchical Message Passing},
  author = {Zhang, Dong and Ju, Xincheng and Zhang, Wei and Li, Junhui and Li, Shoushan and Zhu, Qiaoming and
            Zhou, Guodong},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2021}
}""",
    "mai2022mib": """@article{mai2022mib,
  title = {Multimodal Information Bottleneck: Learning Minimal Sufficient Unimodal and Multimodal Representations},
  author = {Mai, Sijie and Zeng, Ying and Hu, Haifeng},
  journal = {IEEE Transactions on Multimedia},
  year = {2022},
  url = {https://arxiv.org/abs/2210.17444}
}""",
    "xiao2024neuro": """@inproceedings{xiao2024neuro,
  title = {Neuro-Inspired Information-Theoretic Hierarchical Perception for Multimodal Learning},
  author = {Xiao, Xiongye and Liu, Gengshuo and Gupta, Gaurav and Cao, Defu and Li, Shixuan and Li, Yaxing and
            Fang, Tianqing and Cheng, Mingxi and Bogdan, Paul},
  booktitle = {The Twelfth International Conference on Learning Representations},
  year = {2024},
  url = {https://openreview.net/forum?id=Z9AZsU1Tju}
}""",
    "wang2025dlf": """@inproceedings{wang2025dlf,
  title = {{DLF}: Disentangled-Language-Focused Multimodal Sentiment Analysis},
  author = {Wang, Pan and Zhou, Qiang and Wu, Yawen and Chen, Tianlong and Hu, Jingtong},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {39},
  number = {20},
  pages = {21180--21188},
  year = {2025}
}""",
    "sun2022clue": """@inproceedings{sun2022clue,
  title = {Counterfactual Reasoning for Out-of-distribution Multimodal Sentiment Analysis},
  author = {Sun, Teng and Wang, Wenjie and Jing, Liqiang and Cui, Yiran and Song, Xuemeng and Nie, Liqiang},
  booktitle = {Proceedings of the 30th ACM International Conference on Multimedia},
  year = {2022},
  doi = {10.1145/3503161.3548211}
}""",
    "rohydr": """@misc{rohydr,
  title = {{RoHyDR}: Robust Hybrid Diffusion Recovery for Incomplete Multimodal Emotion Recognition},
  author = {Jin, Yuehan and Liu, Xiaoqing and Yang, Yiyuan and Yu, Zhiwen and Zhang, Tong and Yang, Kaixiang},
  year = {2025},
  howpublished = {arXiv:2505.17501},
  url = {https://arxiv.org/abs/2505.17501}
}""",
}
