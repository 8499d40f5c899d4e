"""One place where the tests are made strict, and quick to compile."""

import gc
import os

# Most of the suite's time is compilation, and what is tested is what programs compute, not how fast. So LLVM leaves
# out its optimisations, which takes a third off, and XLA its slower emitter of fused loops, which takes half of the
# rest off. BADRJAX_TEST_OPTIMISED=1 tests the programs that users run.
if not os.environ.get("BADRJAX_TEST_OPTIMISED"):
    quick = " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + quick

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes objects by the million that live on in caches; walking over all of them again and again takes a tenth.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


# Compiled programs come to gigabytes, which slow every later test; dropping them takes seconds.
MOST_MEMORY = 3_000_000_000


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drop compiled programs after a file that leaves the process large."""
    yield
    if resident_bytes() > MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


def resident_bytes():
    """Memory of this process; none where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0
