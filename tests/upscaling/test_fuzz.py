# SPDX-License-Identifier: Apache-2.0
"""Damaged files and random tags of every format: each file ends done or as an error of its own.

A small part runs here; LMB_QUANT_FUZZ_FILES=5000 makes it that many.
"""

import io
import os
import random

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin
from rich.console import Console

from lmb_quant.upscaling import Upscaler
from lmb_quant.upscaling.batch import Rules, run_jobs
from lmb_quant.upscaling.inputs import Job, find_jobs

from .conftest import Nearest

COUNT = int(os.environ.get("LMB_QUANT_FUZZ_FILES", "160"))
MODES = {
    ".png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ".jpg": ("L", "RGB", "CMYK"),
    ".webp": ("RGB", "RGBA"),
    ".tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    ".bmp": ("1", "L", "P", "RGB"),
    ".gif": ("L", "P"),
    ".avif": ("RGB", "RGBA"),
    ".tiff": ("deep",),
}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TEXTS = ("Canon", "größer als 5 µm 画像", "", "x" * 3000, "a\0b", "{'shape': [7, 9, 3]}")


def random_value(rng):
    return rng.choice([
        rng.choice(TEXTS), rng.randrange(1 << 16), rng.randrange(1 << 32), rng.randbytes(rng.randrange(50)),
        TiffImagePlugin.IFDRational(rng.randrange(9), rng.randrange(3)), (1, 2, 3), rng.randrange(70000) * "y",
    ])  # fmt: skip


def random_exif(rng):
    exif = Image.Exif()
    names = (ExifTags.Base.ImageDescription, ExifTags.Base.Software, ExifTags.Base.Make, ExifTags.Base.Orientation)
    for tag in rng.sample([*names, ExifTags.Base.ResolutionUnit, ExifTags.Base.XResolution, 40000, 50000], 3):
        exif[tag] = random_value(rng)
    for folder in rng.sample([ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo], rng.randrange(3)):
        exif[folder] = {rng.choice([1, 2, 36864, 37500, 40962]): random_value(rng) for _ in range(3)}
    return exif


def random_options(rng, suffix):
    """Arguments of Pillow's save, each with its own chance."""
    options = {}
    if rng.random() < 0.6:
        options["exif"] = random_exif(rng)
    if rng.random() < 0.3:
        options["icc_profile"] = rng.choice([ICC, rng.randbytes(200), ICC[:16] + b"GRAY" + ICC[20:]])
    if rng.random() < 0.3:
        options["dpi"] = rng.choice([(300, 300), (0.01, 7), (1e6, 1e6)])
    if rng.random() < 0.3:
        xmp = rng.choice([b"<x/>", rng.randbytes(100), b"z" * 70_000])
        if suffix == ".png":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("latin-1"))
        elif suffix != ".tif":
            options["xmp"] = xmp
    if suffix == ".tif" and rng.random() < 0.5:
        options["compression"] = rng.choice(["tiff_lzw", "tiff_adobe_deflate", "packbits"])
    return options


def random_image(rng, suffix):
    """The bytes of a sound file."""
    width, height = rng.randrange(1, 24), rng.randrange(1, 24)
    values, buffer = np.random.default_rng(rng.randrange(1 << 32)), io.BytesIO()
    mode = rng.choice(MODES[suffix])
    if mode == "deep":
        shape = rng.choice([(height, width), (height, width, 3), (height, width, 4)])
        deep = values.integers(0, 65536, shape, np.uint16)
        tifffile.imwrite(buffer, deep, photometric="minisblack" if len(shape) == 2 else "rgb",
                         description=rng.choice(["plain", "x" * 500]))  # fmt: skip
        return buffer.getvalue()
    if mode == "I;16":
        image = Image.fromarray(values.integers(0, 65536, (height, width), np.uint16))
    else:
        image = Image.fromarray(values.integers(0, 256, (height, width, 4), np.uint8)).convert(mode)
    name = {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    for _ in range(20):
        try:
            image.save(buffer := io.BytesIO(), name, **random_options(rng, suffix))
        except Exception:  # Pillow cannot write these tags
            continue
        return buffer.getvalue()
    raise AssertionError("no options that Pillow writes")


def damaged(rng, data):
    data = bytearray(data)
    near = min(len(data), 400) if rng.random() < 0.6 else len(data)  # headers and tags, or anywhere
    kind = rng.choice(["cut", "bytes", "zeros", "more"])
    start = rng.randrange(near)
    if kind == "cut":
        return bytes(data[:start])
    if kind == "bytes":
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(near)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    elif kind == "zeros":
        end = min(len(data), start + rng.randrange(1, 60))
        data[start:end] = bytes(end - start)
    else:
        data[start:start] = rng.randbytes(rng.randrange(1, 40))
    return bytes(data)


def make_folder(folder, count, seed):
    """Files in turn of each format, two of five sound; returns the names of these."""
    rng, sound = random.Random(seed), set()
    folder.mkdir()
    for number in range(count):
        suffix = list(MODES)[number % len(MODES)]
        data = random_image(rng, suffix)
        name = f"{number}{suffix}"
        if rng.random() < 0.4:
            sound.add(name)
        else:
            data = damaged(rng, data)
        (folder / name).write_bytes(data)
    return sound


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "in"
    return folder, make_folder(folder, COUNT, seed=1)


def run(jobs):
    said = io.StringIO()
    failed = run_jobs(Upscaler(Nearest(3)), jobs, Console(file=said, width=10_000), Rules())
    return failed, said.getvalue()


def test_a_folder(files, tmp_path):
    folder, sound = files
    jobs, _ = find_jobs([folder], tmp_path / "out")
    failed, said = run(jobs)
    done = {job.source.name for job in jobs if job.target.exists()}
    assert len(done) == len(jobs) - failed
    assert not sound - done, (sorted(sound - done), said)
    assert said.count("error: ") == failed > 0
    for job in jobs:
        if job.source.name in done:
            with Image.open(job.target) as image:
                image.verify()


def test_each_into_another_format(files, tmp_path):
    folder, sound = files
    rng = random.Random(2)
    jobs = [
        Job(path, tmp_path / f"{path.name}{rng.choice(['.png', '.jpg', '.webp', '.tif'])}")
        for path in sorted(folder.iterdir())
    ]
    failed, said = run(jobs)
    assert len(list(tmp_path.glob("*"))) == len(jobs) - failed
    for job in jobs:
        if job.source.name in sound and not job.target.exists():
            assert f"{job.target}: " in said
            assert any("holds no" in line for line in said.splitlines() if line.startswith(f"error: {job.target}")), (
                said
            )
