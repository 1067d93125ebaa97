# SPDX-License-Identifier: Apache-2.0
"""Image files: every pixel and what the file says about them."""

import io
import itertools

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from lmb_quant import LMBError
from lmb_quant.upscaling.files import ImageFile, read_image, write_image
from lmb_quant.upscaling.formats import check_fits
from lmb_quant.upscaling.metadata import Metadata

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
EIGHT_BITS = [".png", ".jpg", ".webp", ".tif"]
LOSSLESS = list(itertools.product([".png", ".tif"], [8, 16], ["L", "LA", "RGB", "RGBA"]))
PLAIN = Metadata(icc=None, exif=Image.Exif(), xmp=None, dpi=None, chunks=())
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
    if (suffix, bits, layout) == (".tif", 16, "LA"):
        pytest.skip("Pillow cannot look at it; test_gray_with_alpha_of_16_bits_in_tiff")
    file = ImageFile(pixels_of(layout, bits), PLAIN)
    assert (file.layout, file.bits, file.size) == (layout, bits, (7, 5))
    write_image(tmp_path / f"x{suffix}", file)
    again = read_image(tmp_path / f"x{suffix}")
    assert (again.layout, again.bits, again.size) == (layout, bits, (7, 5))
    np.testing.assert_array_equal(as_array(again), as_array(file))
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_gray_with_alpha_of_16_bits_in_tiff(tmp_path):
    path, pixels = tmp_path / "x.tif", pixels_of("LA", 16)
    write_image(path, ImageFile(pixels, PLAIN))
    np.testing.assert_array_equal(tifffile.imread(path), pixels)
    with pytest.raises(LMBError, match="cannot be read"):
        read_image(path)


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
        write_image(path, ImageFile(stored, Metadata(None, exif, None, None, ())))
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
        assert again.resized(7, 5).get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == 7


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


def test_pillows_guard_against_bombs_stays_on(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    for limit in (1000, 100):  # Pillow warns, and refuses from twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(LMBError, match=r"x\.png: .*decompression bomb"):
            read_image(tmp_path / "x.png")


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


def test_other_formats_are_refused(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.bmp")
    with pytest.raises(LMBError, match="it cannot be read as PNG, JPEG"):
        read_image(tmp_path / "x.bmp")


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
        ("x.png", "CMYK", 8, 5, "PNG holds no CMYK of 8 bits. Allowed: .jpg, .jpeg, .tif, .tiff"),
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
