"""One place where the tests are made strict, and quick to compile."""

import gc
import os

# Most of the suite's time is compilation, and what is tested is what programs compute, not how fast. So LLVM leaves
# out its optimisations, which takes a third off. BADRJAX_TEST_OPTIMISED=1 tests the programs that users run.
if not os.environ.get("BADRJAX_TEST_OPTIMISED"):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

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
