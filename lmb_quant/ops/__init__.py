# SPDX-License-Identifier: Apache-2.0
"""Pure functions on tensors: signs, surrogate gradients, local means, weight scales."""

from .binary_conv2d import LayerArguments as LayerArguments
from .binary_conv2d import active_kernel as active_kernel
from .binary_conv2d import binary_conv2d as binary_conv2d
from .binary_unit import Comparison as Comparison
from .local_mean import global_mean as global_mean
from .local_mean import local_mean as local_mean
from .local_mean import local_mean_sign as local_mean_sign
from .local_mean import window_sum as window_sum
from .sign import sign_pm1 as sign_pm1
from .sign import surrogate_sign as surrogate_sign
from .surrogates import SURROGATES as SURROGATES
from .surrogates import check_surrogate as check_surrogate
from .surrogates import surrogate_derivative as surrogate_derivative
from .surrogates import triangle_width as triangle_width
from .threshold import THRESHOLDS as THRESHOLDS
from .threshold import Threshold as Threshold
from .weight_scale import WEIGHT_SCALES as WEIGHT_SCALES
from .weight_scale import check_weight_scale as check_weight_scale
from .weight_scale import register_weight_scale as register_weight_scale
from .weight_scale import weight_scale as weight_scale
