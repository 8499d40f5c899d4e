"""Facts about the residual network: its size, where it starts, what its images may not share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from badrjax.models import resnet18

KEY = jax.random.key(0)
SMALL = {"image_shape": (8, 6, 3), "width": 4, "blocks": (1, 1)}


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, KEY)))


@pytest.fixture(scope="module")
def params():
    """Parameters with every scale and bias moved from where it starts."""
    start = jax.jit(resnet18(**SMALL).init)(KEY)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), start)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(1).normal(size=(5, 8, 6, 3)), jnp.float32)


@pytest.mark.parametrize(("num_outputs", "expected"), [(10, 11_173_962), (2, 11_169_858)])
def test_number_of_parameters_is_that_of_resnet18_for_small_images(num_outputs, expected):
    assert count(resnet18(num_outputs=num_outputs)) == expected


def test_number_of_parameters_by_hand():
    stem = 27 * 4 + 2 * 4
    first = 2 * (9 * 4 * 4 + 2 * 4)
    second = (9 * 4 * 8 + 2 * 8) + (9 * 8 * 8 + 2 * 8) + (4 * 8 + 2 * 8)
    assert count(resnet18(**SMALL)) == stem + first + second + (8 + 1) * 2


def test_convolutions_start_as_he_proposed_and_norms_as_identities():
    params = jax.jit(resnet18(width=24, blocks=(1, 1)).init)(KEY)
    kernels = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        kind = path[-1].key
        if kind != "kernel":
            np.testing.assert_array_equal(leaf, 1.0 if kind == "scale" else 0.0)
        elif leaf.ndim == 4:
            kernels += 1
            fan_in = np.prod(leaf.shape[:3])
            # Five deviations of a deviation; the distribution is cut off, so its fourth moment is below a normal's.
            np.testing.assert_allclose(np.std(leaf), np.sqrt(2 / fan_in), rtol=5 / np.sqrt(2 * leaf.size))
            assert abs(np.mean(leaf)) < 5 * np.sqrt(2 / fan_in / leaf.size)
    assert kernels == 1 + 2 + 3


def test_both_ways_of_convolution_compute_the_same(params, images):
    def total(how):
        model = resnet18(**SMALL, convolutions=how)
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(model.apply(p, images)))))(params)

    (value, slopes), (other, other_slopes) = total("direct"), total("patches")
    np.testing.assert_allclose(value, other, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(slopes), jax.tree.leaves(other_slopes), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
        assert np.all(np.isfinite(one))
        assert np.any(one != 0)


@pytest.mark.parametrize("how", ["direct", "patches"])
def test_an_images_score_depends_on_no_other(params, images, how):
    model = resnet18(**SMALL, convolutions=how)
    apply = jax.jit(model.apply)
    beside = images.at[1:].set(jnp.nan)
    np.testing.assert_allclose(apply(params, beside)[0], apply(params, images)[0], rtol=1e-5)
    shuffled = jnp.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(apply(params, images[shuffled]), apply(params, images)[shuffled], rtol=1e-4, atol=1e-5)


def convolved(x, kernel, stride):
    height, width, margin = *x.shape[1:3], kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    size = range(kernel.shape[0])
    whole = sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in size for j in size)
    return whole[:, ::stride, ::stride]


def normalised(x, weights, groups=2):
    grouped = x.reshape(*x.shape[:3], groups, -1)
    mean, variance = (of(grouped, axis=(1, 2, 4), keepdims=True) for of in (np.mean, np.var))
    return ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * weights["scale"] + weights["bias"]


def test_scores_are_those_of_the_network_written_out(params, images):
    """In NumPy, double precision: what is rectified, and what is added to what."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = convolved(np.asarray(images, np.float64), weights["stem"]["kernel"], 1)
    x = np.maximum(normalised(x, weights["stem_norm"]), 0)
    for stage in (0, 1):
        block, stride = weights[f"stage_{stage}_block_0"], 1 + stage
        y = normalised(convolved(x, block["convolution_0"]["kernel"], stride), block["norm_0"])
        y = normalised(convolved(np.maximum(y, 0), block["convolution_1"]["kernel"], 1), block["norm_1"])
        if "shortcut" in block:
            x = normalised(convolved(x, block["shortcut"]["kernel"], stride), block["shortcut_norm"])
        x = np.maximum(x + y, 0)
    expected = x.mean((1, 2)) @ weights["output"]["kernel"] + weights["output"]["bias"]
    apply = jax.jit(resnet18(**SMALL, convolutions="patches").apply)
    np.testing.assert_allclose(apply(params, images), expected, rtol=1e-4, atol=1e-5)


def test_rows_are_images_and_a_key_changes_nothing(params, images):
    model = resnet18(**SMALL)
    apply = jax.jit(model.apply)
    scores = apply(params, images)
    assert scores.shape == (5, 2)
    np.testing.assert_array_equal(apply(params, images.reshape(5, -1)), scores)
    np.testing.assert_array_equal(apply(params, images, key=KEY), scores)


def test_scores_ignore_the_brightness_of_an_image_but_for_the_border():
    # Each group of channels is normalised within the image, so after the stem its scale is gone.
    model = resnet18(**SMALL)
    params, x = jax.jit(model.init)(KEY), jax.random.normal(KEY, (2, 8, 6, 3))
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(params, 7 * x), apply(params, x), rtol=1e-3, atol=1e-4)


def test_seeds_can_be_mapped_over(images):
    model = resnet18(**SMALL, convolutions="patches")
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(lambda key: model.apply(model.init(key), images)))(keys)
    alone = jax.jit(lambda key: model.apply(model.init(key), images))(keys[1])
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_shapes_without_computing():
    def scores(model, *shape):
        params = jax.eval_shape(model.init, KEY)
        return jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct(shape, jnp.uint8))

    assert scores(resnet18(num_outputs=1, width=6), 4, 32, 32, 3).shape == (4,)
    assert scores(resnet18((7, 5, 1), 3, width=1), 2, 35).shape == (2, 3)
    assert scores(resnet18(width=2, groups=2), 0, 32, 32, 3).dtype == jnp.float32


def test_parameters_have_the_default_precision(x64):
    model = resnet18(**SMALL)
    params = jax.eval_shape(model.init, KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}


def test_networks_of_one_form_are_one_program():
    one, same = resnet18(**SMALL), resnet18((8, 6, 3), width=4, blocks=[1, 1])
    assert jax.tree.structure(one) == jax.tree.structure(same)
    assert jax.tree.structure(one) != jax.tree.structure(resnet18(**SMALL, groups=1))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"image_shape must be \(height, width, channels\)", lambda: resnet18((32, 32))),
        (r"image_shape\[0\] must be a positive integer, got 0", lambda: resnet18((0, 32, 3))),
        ("num_outputs must be a positive integer, got 0", lambda: resnet18(num_outputs=0)),
        ("width must be a positive integer, got 2.0", lambda: resnet18(width=2.0)),
        ("groups must divide width 8, got 3", lambda: resnet18(width=8, groups=3)),
        ("at least one stage", lambda: resnet18(blocks=())),
        (r"blocks\[1\] must be a positive integer, got 0", lambda: resnet18(blocks=(1, 0))),
        ("did you mean 'patches'", lambda: resnet18(convolutions="patch")),
        (
            r"\[n, 8, 6, 3\] or their rows, got shape \(2, 6, 8, 3\)",
            lambda: resnet18(**SMALL).apply(resnet18(**SMALL).init(KEY), jnp.ones((2, 6, 8, 3))),
        ),
    ],
)
def test_wrong_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
