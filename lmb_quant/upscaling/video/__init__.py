# SPDX-License-Identifier: Apache-2.0
"""Videos through a network, by PyAV: what ``lmb-quant upscale clip.mp4`` does. Decode, network and encode overlap."""
