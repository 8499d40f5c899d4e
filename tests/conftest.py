"""One place where the tests are made strict."""

import gc

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drop compiled programs after each file: kept, they come to gigabytes, which slow every later test."""
    yield
    jax.clear_caches()
    gc.collect()
