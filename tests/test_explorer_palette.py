"""The page's colours, read from its style sheet: contrast, and what people with other colour vision tell apart."""

import re
from itertools import combinations

import numpy as np
import pytest
from numpy import ndarray

from cltools.explorer.standalone import HERE

SHEET = (HERE / "page.css").read_text(encoding="utf-8")
SCRIPTS = {name: (HERE / "views" / f"{name}.js").read_text(encoding="utf-8") for name in ("map", "palette", "words")}
BANDS = ("easy", "kept", "hard", "mined", "other", "less")
# Machado, Oliveira and Fernandes 2009, of full severity, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TOLD = 18.0
"""ΔE above which two colours are told apart at a glance; below it a symbol and a texture must tell them."""


def blocks(selector: str) -> list[dict[str, str]]:
    """The variables that each block of a selector sets."""
    found = re.findall(re.escape(selector) + r" \{([^}]*)\}", SHEET)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in found]


LIGHT = blocks(".cltools-explorer")[0]
THEMES = {"light": LIGHT, "dark": LIGHT | blocks('.cltools-explorer[data-theme="dark"]')[0]}
every_theme = pytest.mark.parametrize("theme", THEMES)


def linear(colour: str) -> ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG's ratio."""
    low, high = sorted(float(linear(each) @ (0.2126, 0.7152, 0.0722)) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: ndarray) -> ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    t = xyz / (0.9505, 1, 1.089)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, vision: str) -> float:
    """ΔE of 1976 as somebody sees two colours."""
    return float(np.linalg.norm(lab(VISION[vision] @ linear(one)) - lab(VISION[vision] @ linear(other))))


def listed(script: str, name: str) -> list[str]:
    """The words of a constant list in a script."""
    found = re.search(rf"const {name} = (?:Object\.freeze\()?\[(.*?)\]", SCRIPTS[script], re.DOTALL)
    assert found is not None
    return re.findall(r'"([^"]+)"', found[1])


def test_both_ways_to_the_dark_theme_are_one() -> None:
    chosen = blocks('.cltools-explorer[data-theme="dark"]')[0]
    assert chosen == blocks('.cltools-explorer:not([data-theme="light"])')[0] and {*chosen} == {*LIGHT}


@every_theme
def test_marks_stand_out_from_what_lies_under_them(theme: str) -> None:
    colours = THEMES[theme]
    grounds = [colours[name] for name in ("ground", "sunk", "panel")]
    low = {}
    for name in (*BANDS, "side-a", "side-b", "ink", "soft", "strong", "accent"):
        under = [*grounds, colours[f"{name}-wash"]] if name in BANDS else grounds
        low[name] = min(contrast(colours[name], each) for each in under)
    for i in range(11):
        low[f"class-{i}"] = contrast(colours[f"class-{i}"], colours["sunk"])
    for i in range(8):
        low[f"level-{i}"] = contrast(colours[f"level-{i}"], colours["sunk"])
    for name in BANDS:  # edges and stars lie on every wash
        for mark in ("ink", "mined"):
            low[f"{mark} on {name}"] = contrast(colours[mark], colours[f"{name}-wash"])
    assert {name: ratio for name, ratio in low.items() if ratio < 3} == {}


@every_theme
def test_texts_can_be_read(theme: str) -> None:
    colours = THEMES[theme]
    low = {}
    for ground in ("ground", "sunk", "panel"):
        for text in ("ink", "soft", "accent", *(f"{name}-text" for name in BANDS)):
            low[f"{text} on {ground}"] = contrast(colours[text], colours[ground])
    for name in BANDS:
        low[f"{name} on its wash"] = contrast(colours[f"{name}-text"], colours[f"{name}-wash"])
        low[f"ink on {name}"] = contrast(colours["ink"], colours[f"{name}-wash"])
        low[f"soft on {name}"] = contrast(colours["soft"], colours[f"{name}-wash"])
    for side in ("side-a", "side-b"):
        low[f"letter on {side}"] = contrast(colours["ground"], colours[side])
    low["hint"] = contrast(colours["ground"], colours["ink"])
    assert {name: ratio for name, ratio in low.items() if ratio < 4.5} == {}


@every_theme
@pytest.mark.parametrize("vision", VISION)
def test_bands_are_told_apart_by_colour_or_else_by_symbol_and_texture(theme: str, vision: str) -> None:
    colours = THEMES[theme]
    symbols, textures, shapes = listed("words", "SYMBOLS"), listed("palette", "TEXTURES"), listed("map", "SHAPES")
    code = {name: i + 1 for i, name in enumerate(BANDS)}
    alike = [
        (one, other) for one, other in combinations(BANDS, 2) if difference(colours[one], colours[other], vision) < TOLD
    ]
    for one, other in alike:
        a, b = code[one], code[other]
        assert symbols[a] != symbols[b] and textures[a] != textures[b], (one, other)
        assert shapes[a] != shapes[b] or {one, other} == {"kept", "less"}, "softened keys are kept, too"
    assert vision != "normal" or {*alike} <= {("kept", "less")}
    assert difference(colours["side-a"], colours["side-b"], vision) >= TOLD


def test_symbols_are_distinct() -> None:
    assert len({*listed("words", "SYMBOLS")}) == 7 and len({*listed("map", "SHAPE_OF_DIFFERENCE")}) == 4
