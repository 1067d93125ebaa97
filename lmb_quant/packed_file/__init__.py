# SPDX-License-Identifier: Apache-2.0
"""What a file of a packed network holds, and the checks that it does; docs/bit_layout.md is the specification."""

from .archs import build as build
from .codecs import Part as Part
from .codecs import TensorCodec as TensorCodec
from .codecs import codec_for as codec_for
from .codecs import codec_named as codec_named
from .codecs import decoded as decoded
from .codecs import register_codec as register_codec
from .header import FORMAT_VERSION as FORMAT_VERSION
from .header import KEY as KEY
from .header import Arch as Arch
from .header import Encoded as Encoded
from .header import Header as Header
from .header import checksum as checksum
from .header import from_text as from_text
from .header import to_text as to_text
from .int8 import INT8_CHANNELS as INT8_CHANNELS
from .layout import DTYPES as DTYPES
from .layout import check_aliases as check_aliases
from .layout import check_parts as check_parts
from .layout import check_places as check_places
from .layout import check_tail_bits as check_tail_bits
from .layout import join_names as join_names
from .layout import other_parts as other_parts
from .layout import packed_parts as packed_parts
from .layout import read_configs as read_configs
