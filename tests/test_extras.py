import importlib.metadata
import re
import sys

import pytest

from badrjax.extras import LIBRARIES, require, user_cache


@pytest.mark.parametrize("module", LIBRARIES)
def test_a_library_is_in_the_extra_that_its_message_names(module):
    library, extra = LIBRARIES[module]
    required = importlib.metadata.requires("badrjax")
    names = [re.match(r"[\w-]+", line)[0] for line in required if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    assert library.lower() in names


@pytest.mark.parametrize("module", LIBRARIES)
def test_a_library_that_is_missing_is_answered_with_how_to_get_it(module, monkeypatch):
    assert require(module, "this") is sys.modules[module]
    monkeypatch.setitem(sys.modules, module, None)
    library, extra = LIBRARIES[module]
    with pytest.raises(ModuleNotFoundError) as caught:
        require(module, "counting")
    assert str(caught.value) == f"counting needs {library}: pip install 'badrjax[{extra}]'"


def test_the_cache_follows_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert user_cache() == tmp_path / "badrjax"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert user_cache() is None
