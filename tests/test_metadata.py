"""Meta-datasets: splits that can be predicted, files that are whole or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import metadata
from jmeta.errors import InputError
from jmeta.metadata import MetaDataset
from jmeta.score import Candidate
from jmeta.tasks import NUMBER, pad_table

DATA = MetaDataset(
    descriptions=np.arange(6, dtype=np.float32).reshape(2, 3),
    scores=np.full((2, 1, 5), np.nan, np.float32),
    rows=np.array([30, 40]),
)
ABOUT = metadata.signature("classes", [Candidate("lda", (0.5,))])


def test_a_split_never_asks_for_a_class_that_the_support_lacks():
    y = np.array([0] * 40 + [1] * 2 + [2], np.int32)
    table = pad_table(np.zeros((43, 2), np.float32), y, np.full(2, NUMBER))
    folds = jax.vmap(metadata._split, in_axes=(0, None, None, None))(
        jax.random.split(jax.random.key(0), 50), table, 10, 20
    )
    for support, query in zip(folds.support[:, 0], folds.query[:, 0]):
        assert not (support & query).any()
        assert set(y[np.asarray(query)[:43]]) <= set(y[np.asarray(support)[:43]])
        assert 9 <= support.sum() <= 21
        assert not (query & ~table.mask).any()


def test_a_meta_dataset_survives_its_file(tmp_path):
    path = tmp_path / "meta" / "part.npz"
    metadata.write_chunk(path, DATA, ABOUT)
    for found, wanted in zip(metadata.read_chunk(path, ABOUT), DATA):
        np.testing.assert_array_equal(found, wanted)
    assert [p.name for p in path.parent.iterdir()] == ["part.npz"]


def test_a_file_cut_in_half_is_refused_by_name(tmp_path):
    path = tmp_path / "part.npz"
    metadata.write_chunk(path, DATA, ABOUT)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"part\.npz: not a part of a jmeta"):
        metadata.read_chunk(path, ABOUT)


def test_a_file_made_for_other_candidates_is_refused(tmp_path):
    path = tmp_path / "part.npz"
    metadata.write_chunk(path, DATA, ABOUT)
    other = metadata.signature("classes", [Candidate("qda", (0.5, 0.5))])
    with pytest.raises(InputError, match="made for other candidates"):
        metadata.read_chunk(path, other)


def test_parts_are_put_together_in_order():
    both = metadata.concatenate([DATA, DATA._replace(rows=np.array([1, 2]))])
    np.testing.assert_array_equal(both.rows, [30, 40, 1, 2])
    assert both.scores.shape == (4, 1, 5)
    assert jnp.isnan(both.scores).all()
