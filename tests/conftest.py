"""What all tests share: shapes checked at run time, one hypothesis profile, a cache, globals put back after each."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
# The rules, and modules that say shapes; to check every call of the others, too, takes a quarter of the tests' time.
SHAPED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "cltools").rglob("*.py"))
    if path.parent.name == "mining" or "from jaxtyping import" in path.read_text(encoding="utf-8")
]
install_import_hook(SHAPED, "numeric_tower.check")  # before any test module imports the package

# jsonschema, which reads notebooks, would compile a grammar of addresses for seconds; without it, it checks none.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples everywhere and always: a failure seen once is seen again.
settings.register_profile("cltools", max_examples=50, deadline=None, derandomize=True, print_blob=True)
settings.load_profile("cltools")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for maps that is nobody's own; processes started by tests use it too."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLTOOLS_CACHE", str(folder))
        yield folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Calls as a reader makes them, without the check of types and shapes that tests put around them."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def restored_globals() -> Iterator[None]:
    """Put back torch's thread count, default type and generator state, so that no test depends on the one before."""
    import torch  # not where tests are only handed out to processes

    threads, dtype, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.set_rng_state(state)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import what drives a browser only where its tests may run."""
    return True if collection_path.name == "browser" and "not browser" in config.option.markexpr else None


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over modules and tests, which stay: to walk them all takes it half a second."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs at night unless it is asked for, and skip what needs a GPU where there is none."""
    if "nightly" not in config.option.markexpr:
        late = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
