"""Networks, from kelvin on the coarse grid to kelvin on the fine one."""

from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.edsr import build_edsr
from keras_lstsr.models.guidance import (
    BlockMean,
    CoarseWeight,
    LocalRegression,
    WindowMean,
)
from keras_lstsr.models.guided import (
    GuideDetail,
    GuidedFeatures,
    StandardDeviation,
    StopGradient,
    build_guided,
)
from keras_lstsr.models.layers import (
    AlignCornersDouble,
    FillGaps,
    MaskGaps,
    NormaliseTemperature,
    Upsample,
)
from keras_lstsr.models.mrunet import build_mrunet, smallest_side
from keras_lstsr.models.padding import CropToReference, PadToMinimum, PadToSkip, ReflectPad
from keras_lstsr.models.pixel_shuffle import PixelShuffle
from keras_lstsr.models.registry import NETWORKS, CoreNetwork, build_model, register_network
from keras_lstsr.models.srcnn import build_srcnn
from keras_lstsr.models.vdsr import build_vdsr

__all__ = [
    "NETWORKS",
    "AlignCornersDouble",
    "BlockMean",
    "CoarseWeight",
    "CoreNetwork",
    "CropToReference",
    "FillGaps",
    "GuideDetail",
    "GuidedFeatures",
    "LocalRegression",
    "MaskGaps",
    "NormaliseTemperature",
    "PadToMinimum",
    "PadToSkip",
    "PixelShuffle",
    "ReflectPad",
    "StandardDeviation",
    "StopGradient",
    "Upsample",
    "WindowMean",
    "build_dmcn",
    "build_edsr",
    "build_guided",
    "build_model",
    "build_mrunet",
    "build_srcnn",
    "build_vdsr",
    "register_network",
    "smallest_side",
]
