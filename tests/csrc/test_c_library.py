# SPDX-License-Identifier: Apache-2.0
"""The library for C programs, as it is installed: what it shows, how programs find it, and what they compute."""

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import lmb_quant as lmb
from lmb_quant.c_library import CLibrary
from lmb_quant.cli import app
from lmb_quant.errors import LMBError
from lmb_quant.ops._library import find
from lmb_quant.zoo import network_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "lmb_quant" / "csrc" / "example" / "upscale_ppm.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
CC = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(CC is None, reason="no C compiler"),
    pytest.mark.skipif(find()[0] is None, reason="the engine is not installed"),
]


def run(*command, **keywords):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, check=False, **keywords
    )


def flags(*options):
    done = CliRunner().invoke(app, ["c-flags", *options])
    assert done.exit_code == 0, done.output
    return done.output.split()


def compiled(source, program, *options, compiler=(CC, *STRICT)):
    done = run(*compiler, source, "-o", program, *options)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return compiled(EXAMPLE, tmp_path_factory.mktemp("example") / "upscale_ppm", *flags())


@pytest.fixture(scope="module")
def photograph():
    """An LR photograph, 30 x 44: a part of scikit-image's chelsea (CC0)."""
    image = Image.open(str(files("skimage").joinpath("data", "chelsea.png"))).convert("RGB")
    return np.asarray(image.crop((90, 40, 266, 160)).resize((44, 30), Image.Resampling.BOX))


def upscaled(program, network, image, folder):
    small, large = folder / "small.ppm", folder / "large.ppm"
    Image.fromarray(image).save(small)
    done = run(program, network, small, large)
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(large))


@pytest.mark.parametrize("name", ["lmb_small_x4", "lmb_large_x4", "lmb_vdsr_x2", "reactnet_srresnet_x4"])
def test_the_example_upscales_as_python_does(example, photograph, tmp_path, name):
    with network_file(name) as path:
        result = upscaled(example, path, photograph, tmp_path)
    expected = lmb.upscale(lmb.from_pretrained(name), photograph)
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


def test_the_static_library_makes_a_program_that_stands_alone(photograph, tmp_path):
    program = compiled(EXAMPLE, tmp_path / "static", *flags("--static"))
    assert "lmb_quant" not in run("ldd", program).stdout if shutil.which("ldd") else True
    with network_file("lmb_small_x4") as path:
        assert upscaled(program, path, photograph, tmp_path).shape == (120, 176, 3)


@pytest.mark.parametrize(
    ("network", "picture", "words"),
    [
        (b"", b"P6 1 1 255 abc", "cannot be read"),
        (b"no network at all", b"P6 1 1 255 abc", "truncated"),
        (None, b"P5 1 1 255 a", "no binary PPM"),
        (None, b"P6 0 1 255 abc", "no PPM of 8 bits"),
        (None, b"P6 1 1 65535 abcdef", "no PPM of 8 bits"),
        (None, b"P6 2 1 255 abc", "truncated"),
        (None, b"P6 999999 999999 255 abc", "truncated"),
        (None, b"P6 1", "no PPM of 8 bits"),
    ],
)
def test_the_example_says_what_is_wrong(example, tmp_path, network, picture, words):
    small, path = tmp_path / "small.ppm", tmp_path / "net.safetensors"
    small.write_bytes(picture)
    with network_file("lmb_small_x4") as zoo:
        path.write_bytes(zoo.read_bytes() if network is None else network)
    done = run(example, path, small, tmp_path / "large.ppm")
    assert done.returncode == 1
    assert words in done.stderr
    assert not (tmp_path / "large.ppm").exists()


def test_a_file_without_stages_says_what_to_do(example, tmp_path):
    path, small = tmp_path / "classic.safetensors", tmp_path / "small.ppm"
    small.write_bytes(b"P6 1 1 255 abc")
    lmb.save(lmb.convert(lmb.archs.LMBSRResNet(num_feat=8, num_block=1, tail="classic")), path)
    done = run(example, path, small, tmp_path / "large.ppm")
    assert "its network has no stages: only Python runs it" in done.stderr


def test_the_program_of_the_page_runs(tmp_path):
    page = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")
    source = tmp_path / "page.c"
    source.write_text(re.findall(r"```c\n(.*?)```", page, flags=re.DOTALL)[0], encoding="utf-8")
    program = compiled(source, tmp_path / "page", *flags("--cflags"), *flags("--libs"))
    with network_file("lmb_small_x4") as path:
        done = run(program, path)
    assert done.stdout.startswith("x4, 3 channels, ")
    assert run(program).returncode == 1


def test_the_header_is_for_cpp_too(tmp_path):
    source = tmp_path / "use.cpp"
    source.write_text("#include <lmb_quant.h>\nint main() { return lmbq_abi_version() != LMBQ_ABI_VERSION; }\n")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = compiled(
        source, tmp_path / "use", *flags(), compiler=(compiler, "-Wall", "-Wextra", "-Werror", "-pedantic")
    )
    assert run(program).returncode == 0


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="no pkg-config")
def test_pkg_config_finds_it(tmp_path):
    environment = {"PKG_CONFIG_PATH": flags("--pkgconfigdir")[0], "PATH": "/usr/bin:/bin"}
    found = run("pkg-config", "--cflags", "--libs", "lmb_quant", env=environment)
    assert found.returncode == 0, found.stderr
    compiled(EXAMPLE, tmp_path / "program", *found.stdout.split())
    assert "-lm" in run("pkg-config", "--libs", "--static", "lmb_quant", env=environment).stdout.split()
    assert run("pkg-config", "--modversion", "lmb_quant", env=environment).stdout.strip() == lmb.__version__


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_cmake_finds_both_libraries_without_cpp(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user LANGUAGES C)\nfind_package(lmb_quant 0.1 REQUIRED)\n"
        f"foreach(kind lmb_quant lmb_quant_static)\n  add_executable(with_${{kind}} {EXAMPLE})\n"
        "  target_link_libraries(with_${kind} lmb_quant::${kind})\nendforeach()\n"
    )
    for command in (
        ("-S", tmp_path, "-B", tmp_path, f"-Dlmb_quant_DIR={flags('--cmakedir')[0]}"),
        ("--build", tmp_path),
    ):
        done = run("cmake", *command)
        assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("lmb_quant", "lmb_quant_static"):
        assert "usage" in run(tmp_path / f"with_{kind}").stderr


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_nothing_but_the_interface_is_seen():
    shared = CLibrary.find().shared
    seen = run("nm", "-D", "--defined-only", shared).stdout.split()[2::3]
    declared = set()
    for header in (ROOT / "lmb_quant" / "csrc" / "include").glob("*.h"):
        declared |= set(re.findall(r"^LMBQ_API [^;(]*?\b(lmbq_\w+)\(", header.read_text(encoding="utf-8"), flags=re.M))
    assert len(declared) > 20
    assert set(seen) == declared
    archive = run("nm", "--defined-only", "--extern-only", "--no-weak", shared.with_suffix(".a")).stdout
    others = [name for kind, name in re.findall(r"^\w+ ([TDBR]) (\S+)$", archive, flags=re.M) if "lmbq" not in name]
    assert not others


def test_one_place_at_a_time_is_printed():
    assert Path(flags("--pkgconfigdir")[0], "lmb_quant.pc").is_file()
    assert Path(flags("--cmakedir")[0], "lmb_quantConfig.cmake").is_file()
    assert [flag[:2] for flag in flags()] == ["-I", "-L", "-W", "-l"]


def test_without_the_engine_there_is_a_message(monkeypatch):
    monkeypatch.setattr("lmb_quant.c_library.shared_libraries", list)
    with pytest.raises(LMBError, match="not installed; install again with a C"):
        CLibrary.find()
