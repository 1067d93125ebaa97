# SPDX-License-Identifier: Apache-2.0
"""lmb_quant/recipe: reading, round trips, and an error for everything that is not a recipe."""

import pytest
import yaml
from helpers import recipe

from lmb_quant import Recipe, RecipeError
from lmb_quant.recipe import recipe_names


def changed(path, value):
    """Recipe lmb with one place changed: changed("scheme.unit.skip", "auto")."""
    data = recipe()
    *parents, key = path.split(".")
    node = data
    for parent in parents:
        node = node[int(parent) if isinstance(node, list) else parent]
    node[key] = value
    return data


def without(path):
    data = recipe()
    *parents, key = path.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    del node[key]
    return data


def test_every_source_gives_the_same_recipe(tmp_path):
    loaded = Recipe.load("lmb")
    path = tmp_path / "mine.yml"
    path.write_text(loaded.to_yaml(), encoding="utf-8")
    for source in (loaded, loaded.to_dict(), loaded.to_yaml(), path, str(path)):
        assert Recipe.load(source) == loaded
    assert Recipe.load(loaded) is loaded
    assert Recipe.load("sign") != loaded


@pytest.mark.parametrize("name", ["a{b}.yaml", "a: b.yml", ".match/r.yaml", "targets/ignore.yaml"])
def test_names_of_files_are_no_text_and_no_places(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(Recipe.load("lmb").to_yaml(), encoding="utf-8")
    assert Recipe.load(str(path)) == Recipe.load("lmb")


def test_an_option_that_is_null_stays_so():
    loaded = Recipe.load(recipe("design", activation={"kernel": None}))
    assert loaded.to_dict()["scheme"]["activation"]["kernel"] is None
    assert Recipe.load(loaded.to_yaml()) == Recipe.load(loaded.to_dict()) == loaded
    changed = Recipe.load(recipe(overrides=[{"match": "a", "activation": {"window": None}}]))
    assert changed.scheme.overridden(changed.overrides[0]).activation.options["window"] is None


def test_full_recipe_round_trips():
    data = recipe(
        targets=["Conv2d", "body.*"],
        overrides=[
            {"match": "a", "activation": {"binarizer": "sign"}, "weight": {"kappa": 2.0}, "unit": {"skip": "none"}},
            {"match": "b", "skip_layer": True},
        ],
        others=[{"match": "c", "torchao": {"_type": "X", "_data": {"n": None, "list": [1, 2]}}}],
    )
    loaded = Recipe.load(data)
    assert Recipe.load(loaded.to_yaml()) == Recipe.load(loaded.to_dict()) == loaded
    assert loaded.scheme.activation.options == {"window": 3, "surrogate": "approx_sign"}


def test_defaults():
    loaded = Recipe.load(
        {
            "version": 1,
            "metadata": {"name": "x"},
            "scheme": {"activation": {"binarizer": "sign"}, "weight": {"binarizer": "sign"}},
        }
    )
    assert loaded.targets == ["Conv2d"]
    assert loaded.ignore == loaded.overrides == loaded.others == []
    unit = loaded.scheme.unit
    assert (unit.skip, unit.norm, unit.act, loaded.scheme.weight.scale) == ("auto", "none", "none", "channel_mean")


def test_loading_does_not_change_the_mapping():
    data = recipe()
    Recipe.load(data)
    assert data == recipe()


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Recipe.load("lmb").version = 2


UNKNOWN_KEYS = {
    "top": (
        "ignroe",
        r"recipe: unknown key 'ignroe'\. Did you mean 'ignore'\? Allowed: ignore, metadata, others, .*version\.",
    ),
    "metadata": (
        "metadata.nmae",
        r"recipe: metadata: unknown key 'nmae'\. Did you mean 'name'\? Allowed: description, name, source\.",
    ),
    "scheme": (
        "scheme.wieght",
        r"recipe: scheme: unknown key 'wieght'\. Did you mean 'weight'\? Allowed: activation, rescale, unit, weight\.",
    ),
    "unit": (
        "scheme.unit.nrom",
        r"recipe: scheme\.unit: unknown key 'nrom'\. Did you mean 'norm'\? Allowed: act, act_on, chain, norm, ",
    ),
}


@pytest.mark.parametrize(("path", "message"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_unknown_keys(path, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load(changed(path, "x"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"match": "a", "wieght": {}}, r"overrides\[1\]: unknown key 'wieght'\. Did you mean 'weight'\?"),
        ({"match": "a", "unit": {"skp": "none"}}, r"overrides\[1\]\.unit: unknown key 'skp'\. Did you mean 'skip'\?"),
        ({"match": "a", "unit": {"skip": "atuo"}}, r"overrides\[1\]\.unit\.skip: 'atuo' is not allowed"),
        ({"skip_layer": True}, r"overrides\[1\]: the key 'match' is missing"),
        ({"match": 3, "skip_layer": True}, r"overrides\[1\]\.match: 3 is not allowed"),
        ({"match": "a", "skip_layer": "yes"}, r"overrides\[1\]\.skip_layer: 'yes' is not allowed"),
        ("body.*", r"overrides\[1\]: 'body\.\*' is not allowed"),
        ({"match": "a"}, r"overrides\[1\].*changes nothing"),
        ({"match": "a", "skip_layer": True, "unit": {"act": "none"}}, r"overrides\[1\].*skip_layer"),
    ],
    ids=["key", "unit-key", "unit-value", "no-match", "match-type", "skip-type", "not-a-mapping", "empty", "both"],
)
def test_bad_overrides(override, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load(recipe(overrides=[{"match": "x", "skip_layer": True}, override]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"match": "a", "torchoa": {}}, r"others\[0\]: unknown key 'torchoa'\. Did you mean 'torchao'\?"),
        ({"match": "a"}, r"others\[0\]: the key 'torchao' is missing"),
        ({"match": "a", "torchao": "int8"}, r"others\[0\]\.torchao: 'int8' is not allowed"),
    ],
    ids=["key", "missing", "type"],
)
def test_bad_others(other, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.load(recipe(others=[other]))


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0], ids=repr)
def test_wrong_versions(version):
    with pytest.raises(RecipeError, match=r"recipe: version: .* is not allowed"):
        Recipe.load(changed("version", version))


@pytest.mark.parametrize(
    "path", ["version", "metadata", "metadata.name", "scheme", "scheme.activation", "scheme.weight.binarizer"]
)
def test_missing_keys(path):
    where, _, key = path.rpartition(".")
    with pytest.raises(RecipeError, match=rf"recipe: {where}.*the key '{key}' is missing"):
        Recipe.load(without(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("targets", []),
        ("targets", "Conv2d"),
        ("targets", [1]),
        ("ignore", None),
        ("ignore", "@first"),
        ("ignore", {"@first": True}),
        ("overrides", {}),
        ("scheme", []),
        ("scheme.unit", None),
        ("scheme.unit.skip", "always"),
        ("scheme.unit.skip", False),
        ("scheme.unit.norm", None),
        ("scheme.activation", "sign"),
        ("scheme.activation.binarizer", 3),
        ("scheme.weight.scale", 1),
        ("metadata", "lmb"),
        ("metadata.name", 5),
    ],
    ids=str,
)
def test_values_of_the_wrong_kind_name_their_place(path, value):
    with pytest.raises(RecipeError, match=rf"recipe: {path}.* is not allowed\. \S"):
        Recipe.load(changed(path, value))


@pytest.mark.parametrize("token", ["@frist", "@", "@First", "@upsampel"])
def test_unknown_tokens(token):
    with pytest.raises(
        RecipeError, match=rf"recipe: ignore\[1\]: unknown token '{token}'\..*Allowed: @first, @grouped, @last"
    ):
        Recipe.load(recipe(ignore=["@last", token]))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"ignore": ["re:("]}, r"ignore"),
        ({"targets": ["re:[a"]}, r"targets"),
        ({"overrides": [{"match": "re:*", "skip_layer": True}]}, r"overrides"),
        ({"others": [{"match": "re:)", "torchao": {}}]}, r"others"),
    ],
    ids=["ignore", "targets", "overrides", "others"],
)
def test_bad_regular_expressions_name_their_place(changes, place):
    with pytest.raises(RecipeError, match=rf"recipe: {place}.*not a regular expression"):
        Recipe.load(recipe(**changes))


@pytest.mark.parametrize(("name", "hint"), [("lbm", "lmb"), ("rsing", "rsign"), ("lmb_k5", "lmb-k5")])
def test_unknown_recipe_names_the_nearest(name, hint):
    with pytest.raises(
        RecipeError, match=rf"unknown recipe '{name}'\. Did you mean '{hint}'\? Allowed: .*lmb, .*path must end in"
    ):
        Recipe.load(name)


@pytest.mark.parametrize("source", ["", "nothing-like-it", "LMB.YAML.txt"])
def test_unknown_recipe_without_a_near_one(source):
    with pytest.raises(RecipeError, match=r"unknown recipe"):
        Recipe.load(source)


@pytest.mark.parametrize("source", [None, 5, b"lmb", ["lmb"], object()], ids=lambda s: type(s).__name__)
def test_sources_of_another_kind(source):
    with pytest.raises((RecipeError, TypeError), match=r"recipe|source"):
        Recipe.load(source)


def write(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: 1\nscheme: {activation: [}\n", r"not valid YAML"),
        ("version: 1\n\tignore: []\n", r"not valid YAML"),
        ("", r"a recipe is a mapping, not NoneType"),
        ("# only a comment\n", r"a recipe is a mapping, not NoneType"),
        ("- version: 1\n", r"a recipe is a mapping, not list"),
        ("lmb\n", r"a recipe is a mapping, not str: 'lmb'"),
        ("---\nversion: 1\n---\nversion: 1\n", r"not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe", r"cannot read the recipe"),
        (b"\x00\x01\x02\x03", r"not valid YAML|cannot read"),
        ("a: " + "[" * 5000, r"not valid YAML|cannot read|nested"),
        ("version: !!python/object/apply:os.system ['true']\n", r"not valid YAML"),
    ],
    ids=[
        "syntax",
        "tab",
        "empty",
        "comment",
        "list",
        "word",
        "two-documents",
        "binary",
        "control",
        "deep",
        "python-tag",
    ],
)
def test_files_that_hold_no_recipe(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(str(path))


def test_duplicate_keys(tmp_path):
    with pytest.raises(RecipeError, match=r"ignore.*(twice|duplicate)|(twice|duplicate).*ignore"):
        Recipe.load(write(tmp_path, Recipe.load("lmb").to_yaml() + "ignore: []\n"))


def test_errors_in_a_file_name_the_file(tmp_path):
    path = write(tmp_path, yaml.safe_dump(changed("scheme.unit.nrom", "x")))
    with pytest.raises(RecipeError) as caught:
        Recipe.load(str(path))
    assert str(caught.value).startswith(f"{path}: scheme.unit: unknown key 'nrom'")


def test_paths_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path, str(tmp_path / "absent" / "x.yml"), f"{tmp_path}/", "a/\0.yaml"):
        with pytest.raises(RecipeError, match=r"cannot read the recipe"):
            Recipe.load(path)


def test_shipped_recipes_say_their_name_on_error():
    assert Recipe.load("lmb").place == "recipe 'lmb'"


def test_recipe_names():
    assert {"lmb", "lmb-k5", "rsign", "sign"} <= set(recipe_names())
    assert recipe_names() == sorted(recipe_names())
