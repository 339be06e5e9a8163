"""Maps on disk: one is made once, and whatever is wrong with the folder, it is made again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy import ndarray

from cltools.snapshot import maps

PLACE = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
KEY = maps.content_key("a map")


class Maker:
    """Makes a map, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> ndarray:
        self.calls += 1
        return PLACE.copy()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "new" / "cache"))
    return tmp_path / "new" / "cache"


def made_again(key: str = KEY) -> bool:
    """Whether this map is made when it is asked for; it is the right one in any case."""
    make = Maker()
    assert np.array_equal(maps.cached(key, make), PLACE)
    return make.calls == 1


def test_a_map_is_made_once(folder: Path) -> None:
    assert made_again() and not made_again()
    assert made_again(maps.content_key("another"))
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz", ".npz"], "and nothing is left beside them"


@settings(deadline=None, derandomize=True, max_examples=60)
@given(cut=st.integers(0, 330), place=st.integers(0, 319), flip=st.integers(0, 255))
def test_a_damaged_map_is_made_again_and_replaced(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, flip: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("damaged")
        patch.setenv("CLTOOLS_CACHE", str(root))
        made_again()
        path = root / f"{KEY}.npz"
        damaged = bytearray(path.read_bytes())
        damaged[place] ^= flip
        path.write_bytes(bytes(damaged[:cut]))
        assert made_again() or cut >= len(damaged), "what is damaged is made again, but for a date in a whole file"
        assert not made_again()


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for unusable in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("CLTOOLS_CACHE", str(unusable))
        assert made_again() and made_again()
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path))
    (tmp_path / f"{KEY}.npz" / "not_empty").mkdir(parents=True)
    assert made_again() and made_again()
    assert {path.name for path in tmp_path.iterdir()} == {"file", f"{KEY}.npz"}


def test_a_user_without_a_home_has_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "cache_folder", lambda: Path("~nobody_of_that_name").expanduser())
    assert made_again() and made_again()


def test_a_key_is_of_values_types_and_shapes() -> None:
    array = np.arange(6, dtype=np.float32)
    keys = [
        maps.content_key(*parts)
        for parts in [
            (array, 1),
            (array, 2),
            (array, None),
            (array, "1"),
            (array.reshape(2, 3), 1),
            (array.view(np.int32), 1),
            (array + 1, 1),
            (1, array),
            (array,),
        ]
    ]
    assert len({*keys}) == len(keys)
    assert maps.content_key(array.reshape(2, 3).T) == maps.content_key(array.reshape(2, 3).T.copy())


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The rounds of every map that umap would have made."""
    rounds: list[int | None] = []

    def fit(points: ndarray, start: ndarray, seed: int, asked: int | None, *_: float) -> ndarray:
        rounds.append(asked)
        return start + seed + 1

    monkeypatch.setattr(maps, "_fitted", fit)
    return rounds


def test_umap_is_asked_once_for_the_same_points_seed_parameters_and_version(
    folder: Path, fits: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.random.default_rng(1).normal(size=(2, 20, 4)).astype(np.float32)

    def mapped(points: ndarray, seed: int, **settings: Any) -> ndarray:
        return np.stack([*maps.umap_over_epochs(points, seed, **settings)])

    first = mapped(points, 0)
    assert fits == [None, maps.WARM_ROUNDS]
    assert np.array_equal(mapped(points, 0), first) and len(fits) == 2
    mapped(points, 1)
    assert len(fits) == 4, "another seed"
    moved = points.copy()
    moved[1, 3, 0] += 1e-6
    mapped(moved, 0)
    assert len(fits) == 5, "only the epoch that differs"
    mapped(points, 0, neighbours=10)
    mapped(points, 0, min_dist=0.2)
    assert len(fits) == 9, "other parameters"
    monkeypatch.setattr(maps, "version", lambda _: "99")
    mapped(points, 0)
    assert len(fits) == 11, "another version of umap"
