import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseg import labels

applied = {
    ignore: jax.jit(lambda ids, ignore=ignore: labels.truth(ids, 5, ignore))
    for ignore in (255, -1, 7)
}


@given(st.lists(st.integers(-3, 300), min_size=30, max_size=30), st.sampled_from([255, -1, 7]))
def test_every_id_is_a_class_or_ignored_or_poison(ids, ignore):
    ids = np.array(ids)[None]
    truth = applied[ignore](ids)
    known, ignored = (ids >= 0) & (ids < 5), ids == ignore
    np.testing.assert_array_equal(np.isnan(truth.valid), ~known & ~ignored)
    np.testing.assert_array_equal(np.asarray(truth.valid) == 1, known)
    np.testing.assert_array_equal(np.asarray(truth.one_hot).sum(-1), known)
    np.testing.assert_array_equal(truth.labels, np.where(known, ids, 0))


def test_uint8_ids_with_a_channel_and_a_mask():
    ids = np.array([[[0, 1], [255, 4]], [[9, 9], [9, 9]]], np.uint8)[..., None]
    truth = labels.truth(ids, 5, mask=np.array([True, False])[:, None, None])
    np.testing.assert_array_equal(truth.valid, [[[1, 1], [0, 1]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize(("classes", "ignore"), [(1, 255), (5, 4), (5, 0)])
def test_contracts_that_cannot_be_meant(classes, ignore):
    with pytest.raises(ValueError, match=r"classes=1|one of the 5 classes"):
        labels.check_ids(classes, ignore)
