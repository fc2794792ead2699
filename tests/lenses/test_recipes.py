"""Recipes: those of the papers, changed settings, and what is no setting."""

import math

import pytest

from pytest_cnnaudit import AuditError
from pytest_cnnaudit.lenses.recipes import RECIPES, Recipe, recipe_of


@pytest.mark.parametrize(
    ("name", "is_on", "start", "parametrisation"),
    [
        ("olah", {"jitter", "scale", "rotate"}, "noise", "fourier"),
        ("olah-neuron", {"jitter", "scale", "rotate"}, "noise", "fourier"),
        ("yosinski", {"l2", "blur", "clip_norm", "clip_contribution"}, "noise", "pixels"),
        ("nguyen", {"tv", "blur", "blur_every", "jitter", "centre_bias"}, "mean", "pixels"),
        ("simonyan", {"l2", "jitter"}, "zero", "pixels"),
        ("plain", set(), "noise", "pixels"),
    ],
)
def test_the_recipes_have_the_regularisers_of_their_papers(name, is_on, start, parametrisation):
    recipe = RECIPES[name]
    assert (recipe.start, recipe.parametrisation) == (start, parametrisation)
    always = {"parametrisation", "start", "steps", "rate"}
    assert set(recipe.words()) - always == is_on


def test_settings_are_changed_and_the_recipe_of_the_paper_is_not():
    changed = recipe_of("olah", {"steps": 7, "tv": 0.5})
    assert (changed.steps, changed.tv, changed.jitter) == (7, 0.5, RECIPES["olah"].jitter)
    assert RECIPES["olah"].steps != 7
    own = Recipe(rate=0.1)
    assert recipe_of(own, {}) == own
    assert recipe_of(own, {"rate": 0.2}).rate == 0.2


def test_pairs_may_be_lists_as_in_a_file():
    recipe = recipe_of("yosinski", {"blur": [2.0, 0.5], "scale": [0.9, 1]})
    assert (recipe.blur, recipe.scale) == ((2.0, 0.5), (0.9, 1))
    assert hash(recipe) == hash(recipe_of("yosinski", {"blur": (2.0, 0.5), "scale": (0.9, 1)}))


def test_words_are_the_settings_that_are_on():
    assert Recipe(rate=0.1, tv=0.2).words() == {
        "parametrisation": "pixels",
        "start": "noise",
        "steps": "128",
        "rate": "0.1",
        "tv": "0.2",
    }


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("parametrisation", "wavelets", "'fourier' or 'pixels'"),
        ("start", "black", "'noise', 'zero', 'mean', or images"),
        ("steps", 0, "a number of steps, 1 or more"),
        ("steps", 2.5, "a number of steps, 1 or more"),
        ("steps", "many", "a number of steps, 1 or more"),
        ("rate", 0, "a step above 0"),
        ("rate", -0.1, "a step above 0"),
        ("rate", math.nan, "a step above 0"),
        ("rate", math.inf, "a step above 0"),
        ("rate", "fast", "a step above 0"),
        ("l2", 1, "a share from 0 to below 1"),
        ("l2", math.nan, "a share"),
        ("tv", -1, "a strength of 0 or more"),
        ("blur", 1.0, "two widths in pixels"),
        ("blur", (1.0, 1.0, 1.0), "two widths in pixels"),
        ("blur", (1.0, -1.0), "two widths in pixels"),
        ("blur_every", 0, "a number of steps"),
        ("blur_every", 1.5, "a number of steps"),
        ("clip_norm", 1, "a share"),
        ("clip_contribution", -0.1, "a share"),
        ("jitter", 1, "a share of the side"),
        ("scale", (1.2, 0.8), "the smallest factor and the largest"),
        ("scale", (0, 1), "the smallest factor and the largest"),
        ("scale", 1.1, "the smallest factor and the largest"),
        ("rotate", -1, "the largest angle in degrees"),
        ("centre_bias", -0.1, "a share of the side, or 0 for none"),
    ],
)
def test_what_does_not_do_is_said_with_what_would(setting, value, wanted):
    with pytest.raises(AuditError) as refused:
        recipe_of("plain", {setting: value})
    assert str(refused.value).startswith(f"{setting}={value!r} does not do for gradient ascent; give ")
    assert wanted in str(refused.value)


@pytest.mark.parametrize("settings", [{"blur": (1.0, 0.5)}, {"clip_norm": 0.1}, {"clip_contribution": 0.1}])
def test_what_changes_pixels_does_not_go_with_spectra(settings):
    with pytest.raises(AuditError, match="go with parametrisation='pixels'"):
        recipe_of("olah", settings)
    recipe_of("olah", settings | {"parametrisation": "pixels"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 3}, "no setting 'step'. Did you mean 'steps'"),
        ({"jiter": 0.1}, "Did you mean 'jitter'"),
        ({"momentum_of_it_all": 1}, "Did you mean 'parametrisation' or 'start' or 'steps'"),
    ],
)
def test_a_misspelt_setting_suggests_the_closest(settings, message):
    with pytest.raises(AuditError, match=message):
        recipe_of("olah", settings)


def test_an_unknown_recipe_names_those_that_there_are():
    with pytest.raises(AuditError, match="no recipe 'google'; use 'olah', 'olah-neuron', 'simonyan', 'yosinski'"):
        recipe_of("google", {})
    with pytest.raises(AuditError, match="recipe is a dict; give 'olah'"):
        recipe_of({"steps": 3}, {})
