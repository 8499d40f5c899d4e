"""Facts about status codes and their sentences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.status import Status, explain


@pytest.mark.parametrize("code", list(Status))
def test_every_code_has_a_sentence_that_starts_with_its_name(code):
    sentence = explain(jnp.int32(code))
    assert sentence.startswith(code.name)
    assert sentence.endswith(".")
    assert ("Likely causes" in sentence) == (code != Status.SUCCESS)


def test_lanes_are_counted_by_code():
    text = explain(np.array([[0, 4], [0, 1]]))
    assert [line.split(":")[0] for line in text.splitlines()] == ["2 of 4", "1 of 4", "1 of 4"]


def test_an_object_with_a_status_is_read():
    class Info:
        status = jnp.int32(2)

    assert explain(Info()) == explain(2)


@pytest.mark.parametrize("code", [-1, 99])
def test_unknown_codes_are_refused_with_the_known_ones(code):
    with pytest.raises(ValueError, match=r"known are 0 \(SUCCESS\)"):
        explain(code)


@pytest.mark.parametrize("wrong", [0.0, "ok", None])
def test_what_is_no_code_is_refused(wrong):
    with pytest.raises(TypeError, match="integer codes"):
        explain(wrong)


def test_nothing_to_explain_is_refused():
    with pytest.raises(ValueError, match="empty"):
        explain(np.zeros(0, int))


def test_a_traced_status_is_refused():
    with pytest.raises(TypeError, match="on the host"):
        jax.jit(lambda status: len(explain(status)))(0)
