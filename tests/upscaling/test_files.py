# SPDX-License-Identifier: Apache-2.0
"""Image files: every pixel and what the file says about them."""

import contextlib
import io
import itertools
import os
import socket
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from lmb_quant import LMBError
from lmb_quant.upscaling.formats import check_fits
from lmb_quant.upscaling.image_file import ImageFile
from lmb_quant.upscaling.metadata import Metadata
from lmb_quant.upscaling.reading import read_image
from lmb_quant.upscaling.writing import write_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # damaged metadata; the pixels decide
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ICC_GRAY = ICC[:16] + b"GRAY" + ICC[20:]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
UPRIGHT_XMP = XMP.replace(b"6", b"1")
EIGHT_BITS = [".png", ".jpg", ".webp", ".tif"]
LOSSLESS = list(itertools.product([".png", ".tif"], [8, 16], ["L", "LA", "RGB", "RGBA"]))
PLAIN = Metadata()
# What PIL.ImageOps does for each orientation, as NumPy would: the stored picture of an upright one.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def random_array(*shape, bits=8):
    return np.random.default_rng(0).integers(0, 1 << bits, shape, np.uint8 if bits == 8 else np.uint16)


def pixels_of(layout, bits, size=(5, 7)):
    array = random_array(*size, len(layout), bits=bits)
    return array if bits == 16 else Image.fromarray(array[..., 0] if layout == "L" else array)


def exif_of(orientation=1):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "a picture"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExifImageWidth: 3, ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05"}
    exif[ExifTags.IFD.GPSInfo] = {1: "N"}
    return exif


def save_all(path, image, orientation=1):
    """Writes with Pillow, with all metadata that the format holds."""
    options = {"icc_profile": ICC, "exif": exif_of(orientation).tobytes()}
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = info
    elif path.suffix == ".tif":
        exif = exif_of(orientation)
        exif[700] = XMP
        options["exif"] = exif.tobytes()
    else:
        options["xmp"] = XMP
    if path.suffix != ".webp":
        options["dpi"] = (300, 150)
    quality = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(path.suffix, {})
    image.save(path, **options, **quality)


def as_array(file):
    return np.asarray(file.pixels)


@pytest.mark.parametrize(("suffix", "bits", "layout"), LOSSLESS)
def test_lossless_files_keep_every_bit(tmp_path, suffix, bits, layout):
    file = ImageFile(pixels_of(layout, bits), PLAIN)
    assert (file.layout, file.bits, file.size) == (layout, bits, (7, 5))
    write_image(tmp_path / f"x{suffix}", file)
    again = read_image(tmp_path / f"x{suffix}")
    assert (again.layout, again.bits, again.size) == (layout, bits, (7, 5))
    np.testing.assert_array_equal(as_array(again), as_array(file))
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_gray_with_alpha_of_16_bits_in_tiff(tmp_path):
    path, pixels = tmp_path / "x.tif", pixels_of("LA", 16)
    write_image(path, ImageFile(pixels, Metadata(ICC_GRAY, exif_of(), XMP, (300.0, 150.0))))
    np.testing.assert_array_equal(tifffile.imread(path), pixels)
    again = read_image(path)  # Pillow cannot look at it
    np.testing.assert_array_equal(as_array(again), pixels)
    assert (again.metadata.icc, again.metadata.xmp, again.metadata.dpi) == (ICC_GRAY, UPRIGHT_XMP, (300, 150))
    assert again.metadata.exif[ExifTags.Base.ImageDescription] == "a picture"


@pytest.mark.parametrize("bits", [8, 16])
def test_gray_of_16_bits_by_other_programs(tmp_path, bits):
    array = random_array(5, 7, bits=bits)
    for name in ("x.png", "x.tif"):
        Image.fromarray(array).save(tmp_path / name)
        np.testing.assert_array_equal(as_array(read_image(tmp_path / name)).reshape(5, 7), array)


@pytest.mark.parametrize("options", [{"planarconfig": "separate"}, {"byteorder": ">"}, {"compression": "lzw"}])
def test_tiff_of_16_bits_by_other_programs(tmp_path, options):
    array, path = random_array(5, 7, 3, bits=16), tmp_path / "x.tif"
    stored = np.moveaxis(array, -1, 0) if "planarconfig" in options else array
    tifffile.imwrite(path, stored, photometric="rgb", **options)
    np.testing.assert_array_equal(as_array(read_image(path)), array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", EIGHT_BITS)
def test_the_picture_is_upright(tmp_path, suffix, orientation):
    path, upright = tmp_path / f"x{suffix}", np.kron(random_array(2, 3, 3), np.ones((8, 8, 1), np.uint8))
    save_all(path, Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))), orientation)
    file = read_image(path)
    np.testing.assert_allclose(as_array(file), upright, atol=12 if suffix == ".jpg" else 0)
    write_image(path, file)
    with Image.open(path) as again:
        assert again.size == (24, 16)
        assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_picture_of_16_bits_is_upright(tmp_path, suffix, orientation):
    path, upright = tmp_path / f"x{suffix}", random_array(4, 6, 3, bits=16)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    if suffix == ".tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = exif_of()
        write_image(path, ImageFile(stored, Metadata(exif=exif)))
        turned = exif_of(orientation).tobytes()[6:]  # as long: only the number differs
        path.write_bytes(replaced_chunk(path.read_bytes(), b"eXIf", turned))
    np.testing.assert_array_equal(as_array(read_image(path)), upright)


def replaced_chunk(data, name, content):
    """PNG data with other contents of a chunk."""
    at = data.index(name) - 4
    length = int.from_bytes(data[at : at + 4], "big")
    body = name + content
    chunk = len(content).to_bytes(4, "big") + body + imagecodecs.zlib_crc32(body).to_bytes(4, "big")
    return data[:at] + chunk + data[at + 12 + length :]


@pytest.mark.parametrize(("source", "target"), [*itertools.product(EIGHT_BITS, EIGHT_BITS)])
def test_metadata_goes_from_each_format_to_each(tmp_path, source, target):
    save_all(tmp_path / f"a{source}", Image.fromarray(random_array(5, 7, 3)))
    write_image(tmp_path / f"b{target}", read_image(tmp_path / f"a{source}"))
    with Image.open(tmp_path / f"b{target}") as image:
        image.load()
        exif = image.getexif()
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or exif[700]
        assert image.info["icc_profile"] == ICC
        assert b'tiff:Orientation="1"' in (xmp.encode() if isinstance(xmp, str) else xmp)
        assert exif[ExifTags.Base.ImageDescription] == "a picture"
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.DateTimeOriginal] == "2020:01:02 03:04:05"
        assert details[ExifTags.Base.ExifImageWidth] == 7  # it said 3
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        if ".webp" not in (source, target):
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        layout_tags = {ExifTags.Base.StripOffsets, ExifTags.Base.Compression} & set(exif)
        assert not layout_tags or target == ".tif"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_of_16_bits(tmp_path, suffix):
    metadata = Metadata(ICC, exif_of(), XMP, (300.0, 150.0), ())
    write_image(tmp_path / f"x{suffix}", ImageFile(pixels_of("RGB", 16), metadata))
    again = read_image(tmp_path / f"x{suffix}").metadata
    assert (again.icc, again.dpi) == (ICC, pytest.approx((300, 150), abs=0.02))
    assert b'tiff:Orientation="1"' in again.xmp
    assert again.exif[ExifTags.Base.ImageDescription] == "a picture"
    if suffix == ".png":
        assert again.exif[ExifTags.IFD.Exif][ExifTags.Base.ExifImageWidth] == 7


@pytest.mark.parametrize("bits", [8, 16])
def test_gamma_of_a_png_is_kept(tmp_path, bits):
    metadata = Metadata(None, Image.Exif(), None, None, ((b"gAMA", (100000).to_bytes(4, "big")),))
    write_image(tmp_path / "x.png", ImageFile(pixels_of("RGB", bits), metadata))
    write_image(tmp_path / "y.png", read_image(tmp_path / "x.png"))
    with Image.open(tmp_path / "y.png") as image:
        assert image.info["gamma"] == 1.0


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_stays_cmyk(tmp_path, suffix):
    array = np.kron(random_array(2, 2, 4), np.ones((8, 8, 1), np.uint8))
    Image.frombytes("CMYK", (16, 16), array.tobytes()).save(tmp_path / f"x{suffix}", quality=100, subsampling=0)
    file = read_image(tmp_path / f"x{suffix}")
    write_image(tmp_path / f"y{suffix}", file)
    again = read_image(tmp_path / f"y{suffix}")
    assert file.layout == again.layout == "CMYK"
    np.testing.assert_allclose(as_array(again), array, atol=12 if suffix == ".jpg" else 0)


def test_palettes_and_transparent_colours(tmp_path):
    image = Image.fromarray(random_array(5, 7, 3)).quantize(8)
    image.save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").layout == "RGB"
    image.save(tmp_path / "x.png", transparency=2)
    assert read_image(tmp_path / "x.png").layout == "RGBA"
    Image.new("1", (4, 3), 1).save(tmp_path / "x.png")
    assert as_array(read_image(tmp_path / "x.png")).tolist() == [[255] * 4] * 3


def test_a_photograph_with_a_preview_is_the_photograph(tmp_path):
    photograph, preview = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (4, 2), "blue")
    photograph.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[preview])
    file = read_image(tmp_path / "x.jpg")
    assert file.size == (16, 8)
    assert file.pixels.getpixel((3, 3))[0] > 200


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(LMBError, match=f"x{suffix}: it is animated or has pages: 2"):
        read_image(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("suffix", EIGHT_BITS)
@pytest.mark.parametrize("kept", [0, 3, 40, -60])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(random_array(30, 40, 3)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LMBError, match=f"x{suffix}: it cannot be read"):
        read_image(path)


def test_damaged_files_of_16_bits_are_refused(tmp_path):
    for suffix in (".png", ".tif"):
        path = tmp_path / f"x{suffix}"
        write_image(path, ImageFile(random_array(30, 40, 3, bits=16), PLAIN))
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 200] = bytes(200)
        path.write_bytes(data)
        with pytest.raises(LMBError, match=f"x{suffix}: it cannot be read"):
            read_image(path)


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".jpg", 8), (".tif", 8), (".tif", 16)])
def test_more_pixels_than_allowed(tmp_path, monkeypatch, suffix, bits):
    path = tmp_path / f"x{suffix}"
    write_image(path, ImageFile(pixels_of("RGB", bits, (30, 40)), PLAIN))
    message = rf"x\{suffix}: 40 x 30 pixels .* Allowed: 1,199, against decompression bombs; --max-pixels 1200 lifts it"
    with pytest.raises(LMBError, match=message):
        read_image(path, max_pixels=1199)
    assert read_image(path, max_pixels=1200).size == (40, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # what read_image() does not lift
    with pytest.raises(LMBError, match=rf"x\{suffix}: .*decompression bomb"):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((3, 4), np.float32), {}, "mode 'F'"),
        (np.zeros((3, 4, 4), np.uint16), {"photometric": "separated"}, "SEPARATED of 16 bits"),
        (np.zeros((3, 4, 4), np.uint16), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "RGB of 16 bits with"),
        (np.zeros((3, 4), np.uint16), {"photometric": "miniswhite"}, "MINISWHITE of 16 bits"),
    ],
)
def test_other_pixels_are_refused_by_name(tmp_path, array, options, message):
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    with pytest.raises(LMBError, match=message):
        read_image(tmp_path / "x.tif")


def test_other_formats_are_refused_by_their_own_name(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.tga")
    with pytest.raises(LMBError, match=r"x\.tga: it cannot be read as PNG, JPEG, .*: it is damaged, or of another"):
        read_image(tmp_path / "x.tga")


@pytest.mark.parametrize("suffix", [".bmp", ".dib", ".gif", ".avif", ".jfif", ".jpe"])
def test_formats_that_are_only_read_and_other_endings(tmp_path, suffix):
    array = np.kron(random_array(2, 3, 3), np.ones((16, 16, 1), np.uint8))
    name = {".jfif": "JPEG", ".jpe": "JPEG"}.get(suffix, suffix[1:].upper())
    options = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}, "JPEG": {"quality": 100, "subsampling": 0}}
    Image.fromarray(array).save(tmp_path / f"x{suffix}", name, **options.get(name, {}))
    file = read_image(tmp_path / f"x{suffix}")
    assert file.layout == "RGB"
    np.testing.assert_allclose(as_array(file), array, atol=0 if name in ("BMP", "DIB", "GIF") else 12)


def test_a_transparent_gif_has_alpha(tmp_path):
    image = Image.fromarray(random_array(5, 7, 3)).quantize(8)
    image.save(tmp_path / "x.gif", transparency=2)
    file = read_image(tmp_path / "x.gif")
    assert file.layout == "RGBA"
    np.testing.assert_array_equal(as_array(file)[..., 3] == 0, np.asarray(image) == 2)


@pytest.mark.parametrize(("bits", "level"), [(1, 0), (1, 1), (2, 2), (4, 9), (8, 77)])
def test_a_transparent_level_of_gray(tmp_path, bits, level):
    levels = np.arange(1 << bits, dtype=np.uint8)
    if bits == 8:
        packed = levels.tobytes()
    else:  # most significant bits first
        text = "".join(f"{value:0{bits}b}" for value in levels)
        packed = bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))
    header = len(levels).to_bytes(4, "big") + bytes((0, 0, 0, 1, bits, 0, 0, 0, 0))
    chunks = [(b"IHDR", header), (b"tRNS", bytes((0, level))), (b"IDAT", zlib.compress(b"\0" + packed)), (b"IEND", b"")]
    data = b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    )
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    file = read_image(tmp_path / "x.png")
    assert file.layout == "LA"
    np.testing.assert_array_equal(as_array(file)[0, :, 0], levels * (255 // (len(levels) - 1)))
    np.testing.assert_array_equal(as_array(file)[0, :, 1] == 0, levels == level)


@pytest.mark.parametrize(("name", "kind"), [("pipe", "a pipe"), ("socket", "a socket"), ("folder", "a folder")])
def test_only_files_are_read(tmp_path, name, kind):
    path = tmp_path / f"{name}.png"
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    else:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(path))
    with pytest.raises(LMBError, match=f"it cannot be read: it is {kind}. Allowed: a file"):
        read_image(path)
    with pytest.raises(LMBError, match="it is a device"):
        read_image(Path("/dev/zero"))


def test_a_link_to_a_file_is_read(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.png")
    (tmp_path / "link.png").symlink_to("x.png")
    assert read_image(tmp_path / "link.png").size == (4, 3)


def test_any_tag_of_an_8_bit_tiff(tmp_path):
    Image.fromarray(random_array(5, 7, 3)).save(tmp_path / "x.tif", dpi=(300, 300), description="ä", software="s")
    file = read_image(tmp_path / "x.tif")
    assert write_image(tmp_path / "y.tif", file) == []
    with Image.open(tmp_path / "y.tif") as image:
        assert (image.info["dpi"], image.tag_v2[ExifTags.Base.Software]) == ((300, 300), "s")
        assert image.info["compression"] == "tiff_adobe_deflate"


def test_more_than_a_jpeg_file_holds(tmp_path):
    exif = exif_of()
    exif[ExifTags.Base.UserComment] = "x" * 70_000
    file = ImageFile(pixels_of("RGB", 8), Metadata(ICC, exif, b"<x/>" * 20_000, (300.0, 300.0)))
    assert write_image(tmp_path / "x.jpg", file) == ["XMP", "EXIF UserComment"]
    again = read_image(tmp_path / "x.jpg")
    assert (again.metadata.icc, again.metadata.dpi) == (ICC, (300, 300))
    assert again.metadata.exif[ExifTags.Base.ImageDescription] == "a picture"


@pytest.mark.parametrize(("suffix", "bits"), [*((suffix, 8) for suffix in EIGHT_BITS), (".tif", 16), (".png", 16)])
@pytest.mark.parametrize("details", [{}, {ExifTags.Base.LensModel: "\xc3\xb6"}], ids=["tags", "details"])
def test_text_beyond_ascii_keeps_its_bytes(tmp_path, suffix, bits, details):
    exif, text = Image.Exif(), "Jörg Müller".encode().decode("latin-1")  # Pillow reads UTF-8 so
    exif[ExifTags.Base.Artist] = text
    if details:
        exif[ExifTags.IFD.Exif] = details
    path = tmp_path / f"x{suffix}"
    assert write_image(path, ImageFile(pixels_of("RGB", bits), Metadata(exif=exif))) == []
    assert "Jörg Müller".encode() in path.read_bytes()
    again = read_image(path).metadata.exif
    assert again[ExifTags.Base.Artist] == text
    assert again.get(ExifTags.IFD.Exif, {}) == ({} if (suffix, bits) == (".tif", 16) else details)


def test_damaged_exif_is_left_out_with_a_word(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    file = read_image(tmp_path / "x.jpg")
    assert not len(file.metadata.exif)
    assert write_image(tmp_path / "y.jpg", file) == []


@pytest.mark.parametrize(
    ("description", "kept"),
    [('{"shape": [5, 7, 3]}', False), ("SizeX=7 SizeY=5", False), ("7 dwarfs", True), ("57 seven", True)],
)
def test_a_description_of_the_old_size_is_not_kept(tmp_path, description, kept):
    tifffile.imwrite(
        tmp_path / "x.tif", random_array(5, 7, 3), photometric="rgb", description=description, metadata=None
    )
    file = read_image(tmp_path / "x.tif")
    assert (ExifTags.Base.ImageDescription in file.metadata.exif) is kept
    assert file.lost == (() if kept else ("EXIF ImageDescription (it gives the old size)",))


def test_dimensions_in_xmp_follow(tmp_path):
    xmp = b'<d tiff:ImageWidth="3" tiff:ImageLength="4" exif:PixelXDimension="3"><exif:PixelYDimension>4</d>'
    write_image(tmp_path / "x.png", ImageFile(pixels_of("RGB", 8), Metadata(xmp=xmp)))
    assert read_image(tmp_path / "x.png").metadata.xmp == (
        b'<d tiff:ImageWidth="7" tiff:ImageLength="5" exif:PixelXDimension="7"><exif:PixelYDimension>5</d>'
    )


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ({b"cICP": bytes((9, 16, 0, 1))}, "PNG colour chunks cICP (JPEG holds none)"),
        ({b"gAMA": (100_000).to_bytes(4, "big")}, "PNG colour chunks gAMA (JPEG holds none)"),
        ({b"cICP": bytes((1, 13, 0, 1))}, None),
        ({b"sRGB": b"\0", b"gAMA": (45_455).to_bytes(4, "big")}, None),
    ],
)
def test_colour_chunks_are_kept_or_named(tmp_path, chunks, said):
    write_image(tmp_path / "x.png", ImageFile(pixels_of("RGB", 8), Metadata(chunks=tuple(chunks.items()))))
    file = read_image(tmp_path / "x.png")
    assert dict(file.metadata.chunks) == chunks
    assert write_image(tmp_path / "x.jpg", file) == ([said] if said else [])


@pytest.mark.parametrize(
    ("layout", "name", "profile", "said"),
    [
        ("RGB", "x.png", ICC_GRAY, "colour profile (of GRAY, the pixels are RGB)"),
        ("L", "x.webp", ICC_GRAY, "colour profile (of GRAY, the pixels are RGB)"),
        ("L", "x.jpg", ICC, "colour profile (of RGB, the pixels are GRAY)"),
        ("LA", "x.png", ICC_GRAY, None),
        ("RGBA", "x.webp", ICC, None),
    ],
)
def test_a_profile_is_that_of_the_pixels(tmp_path, layout, name, profile, said):
    file = ImageFile(pixels_of(layout, 8), Metadata(icc=profile))
    assert write_image(tmp_path / name, file) == ([said] if said else [])
    assert read_image(tmp_path / name).metadata.icc == (None if said else profile)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="cannot write mode"):
        write_image(path, ImageFile(pixels_of("RGBA", 8), PLAIN))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.jpg"]


@pytest.mark.parametrize(
    ("name", "layout", "bits", "width", "message"),
    [
        ("x.jpg", "RGBA", 8, 5, "JPEG holds no RGBA of 8 bits. Allowed: .png, .webp, .tif, .tiff"),
        ("x.webp", "RGB", 16, 5, "WEBP holds no RGB of 16 bits. Allowed: .png, .tif, .tiff"),
        ("x.png", "CMYK", 8, 5, "PNG holds no CMYK of 8 bits. Allowed: .jpg, .jpeg, .jpe, .jfif, .tif, .tiff"),
        ("x.webp", "RGB", 8, 16384, "16384 x 5 pixels. Allowed: 16383 a side"),
        ("x.gif", "RGB", 8, 5, "extension '.gif' is not allowed"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_the_work(tmp_path, name, layout, bits, width, message):
    with pytest.raises(LMBError, match=message):
        check_fits(tmp_path / name, layout, bits, width, 5)


def test_a_png_chunk_longer_than_the_file(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "x.png").write_bytes(data[:33] + (1 << 30).to_bytes(4, "big") + b"gAMA" + data[33:])
    with pytest.raises(LMBError, match="it cannot be read"):
        read_image(tmp_path / "x.png")
