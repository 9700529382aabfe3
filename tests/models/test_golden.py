"""Golden numbers on weights and inputs by formula (`golden`).

author: printed by the published code (thuiar/MMSA, commit a94e65d, on the same weights, float64, torch 2.13); its MULT
and TETFN take the softmax in float32, hence the wider tolerance. affect_diff: by the public code of April 2026, whose
inputs were padded to the longest modality. gcnet, mmin: by zeroQiaoba/GCNet, commit 8cce4a0. clean: printed by this
code when it was written, to notice any change.
tfr_net, emt_dlfr, niat, lnln, mplmm: by the public code that their files name, made to compute in float64 throughout;
NIAT's on aligned inputs, EMT-DLFR's with text lengths such that one step is left.
gear: by Teng-Sun/GEAR, commit cab45ac, with a narrower transformer.
imder, dicmor: by mdswyz/IMDer, commit 1901a92, and mdswyz/DiCMoR, commit 3d7e617, all modalities at hand; their
positions are float32.
"""

import pytest
import torch
from golden import SHAPE, batch, formula
from traits import traits

from affectcore.models import registry
from affectcore.nn.noise import Tape

PUBLISHED = {
    "tfn": ([0.776594535883, 0.776602563497, 0.776459365782], 1e-11),
    "lmf": ([0.32293676284, 0.330901923095, 0.329989053542], 1e-11),
    "mult": ([0.391897804173, -0.811545188191, 0.142469315657], 2e-7),
    "mctn": ([-0.237108753197, -0.214496719966, -0.223972350682], 1e-11),
    "gcnet": ([0.223280780557, 0.171523467308, -0.130148046078], 1e-11),
    "mmin": ([-0.121442085638, -0.11591571736, -0.143645459383], 1e-11),
    "affect_diff": ([-0.356302012297, -0.356302029527, -0.356302020395], 1e-11),
    "misa": ([1.527151225548, 1.547202995025, 1.492914801155], 1e-11),
    "self_mm": ([0.16713288908, 0.163897891, -0.082299566509], 1e-11),
    "mmim": ([0.778579474115, 0.770834533204, 0.610497845252], 1e-11),
    "tetfn": ([0.12501098183, 0.237908984829, 0.113628913611], 2e-7),
    "tfr_net": ([-0.057556308959, -0.152490832576, -0.078624438523], 1e-11),
    "emt_dlfr": ([0.059984209738, 0.254770160566, 0.187659681236], 1e-11),
    "niat": ([1.90939731855, 2.288997749075, 2.19844389256], 1e-11),
    "lnln": ([2.834054476697, 3.138521452077, 3.096808343386], 1e-11),
    "mplmm": ([1.04058277391, 1.037330551068, 1.05781484702], 1e-11),
    "gear": ([0.635772261727, 0.614091564004, 0.621008433027], 1e-11),
    "dicmor": ([2.429979334635, 1.92321528839, 1.463646759869], 2e-7),
    "imder": ([0.156665001345, 0.690029005566, 1.112703817597], 2e-7),
}
CLEAN = {
    "cider": [-0.056671910289, -0.054730014977, -0.027948357567],
    "mlp": [1.928129725134, 1.393455387114, 2.40911846336],
    "late_fusion": [0.674458070441, 0.757677882168, 0.573211764612],
    "tfn": [-0.202605290474, -0.201659327861, -0.205079395961],
    "lmf": [0.330641853215, 0.331103137193, 0.327740088219],
    "rohydr": [0.042062270535, 4.512034861361, 2.106721593343],
    "dicmor": [1.682158186706, 0.790656797622, 1.433670547161],
    "imder": [0.161548688279, 2.271444075805, 0.830489526545],
    "mult": [-0.104863848577, 0.602172698534, -1.324108349322],
    "tailor": [-1.721506156782, -1.721155599646, -1.714521552793],
    "hhmpn": [0.798702723619, 0.799684449155, 0.798729277021],
    "carat": [-0.16346995436, -0.163852149743, -0.127932185773],
    "lddu": [0.138393436278, 0.138754740986, 0.139256170024],
    "mctn": [0.176175528873, 0.169525785167, 0.113152899637],
    "gcnet": [-0.021096556721, -0.023598533993, 0.012058596471],
    "mmin": [-0.121442085638, -0.11591571736, -0.143645459383],
    "modality_dropout": [1.928129725134, 1.393455387114, 2.40911846336],  # its backbone is the mlp above
    "tfr_net": [-0.733654593961, -0.867806591282, -0.579634654877],
    "emt_dlfr": [0.144172982663, 0.184046443492, 0.178587005487],
    "niat": [1.287044148828, 2.069874744892, 2.222518993128],
    "lnln": [2.834054476697, 2.622577696438, 2.833097263156],
    "mplmm": [1.042259127944, 1.047989192157, 1.046024244645],
    "affect_diff": [0.502284963722, 0.502284823636, 0.502285671904],
    "misa": [1.524180619802, 1.549689567219, 1.492914801155],
    "self_mm": [0.147725841082, 0.16228408295, -0.082299566509],
    "mmim": [0.71163992364, 0.807611334635, 0.610497845252],
    "tetfn": [0.057226504669, 0.314661072446, 0.156722260606],
    "c_mib": [-1.365698496208, -1.21442679213, -1.335225135995],
    "ithp": [-0.229392052762, -0.228842571373, -0.383329540246],
    "dlf": [1.109134484896, 1.278041912553, 1.265105007925],
    "cmir": [0.469161560903, 0.383947256416, 0.568153579183],
    "lite_tfn": [-0.02279600483, -0.036215779717, -0.017602389827],
    "lite_mult": [-0.745541258086, -0.628865118551, -0.767006059108],
    "lite_misa": [0.394257699859, 0.409299242929, 0.393253504061],
    "lite_mmim": [-3.316071946431, -3.49429493228, -3.151914242229],
    "gear": [0.613773721592, 0.608172563744, 0.621008433027],
    "lite_tetfn": [0.303517140149, 0.29416974366, 0.289922886018],
}


def prediction(name: str, preset: str) -> list[float]:
    model = registry.build(name, SHAPE, preset, **traits(name).golden).double()
    formula(model)
    with torch.no_grad():
        silent = Tape(torch.zeros((), dtype=torch.float64), training=False)  # what is drawn in evaluation is zero
        values: list[float] = model(batch(), silent).prediction.tolist()
    return values


@pytest.mark.parametrize("name", PUBLISHED)
def test_author_presets_give_the_numbers_of_the_published_code(name):
    expected, tolerance = PUBLISHED[name]
    assert prediction(name, "author") == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", CLEAN)
def test_clean_presets_give_the_numbers_they_gave(name):
    assert prediction(name, "clean") == pytest.approx(CLEAN[name], abs=1e-10)
