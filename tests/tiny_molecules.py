"""Molecules of which nothing is known, in the files that they come in."""

import numpy as np

from jmeta.data.molecules import NUM_BITS


def tiny_counts(num_molecules, seed=0):
    """The arrays of a file of fingerprints."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, num_molecules)
    places = [np.sort(rng.choice(NUM_BITS, size, replace=False)) for size in sizes]
    return {
        "n": sizes.astype(np.uint16),
        "idx": np.concatenate(places).astype(np.uint16),
        "cnt": rng.integers(1, 5, sizes.sum()).astype(np.uint8),
    }


def write_fsmol(folder, split="train", sizes=(40, 30, 12), **changes):
    """Two files as FS-Mol stores them; half the labels of every task are 1."""
    rows = sum(sizes)
    core = {
        "task_id": np.array([f"CHEMBL{i}" for i in range(len(sizes))]),
        "offset": np.concatenate([[0], np.cumsum(sizes)]),
        "label": np.arange(rows, dtype=np.int8) % 2,
        "log_value": np.linspace(4.0, 9.0, rows, dtype=np.float32),
        "relation": np.full(rows, "="),
    } | changes
    np.savez(
        folder / f"{split}_core.npz", **{k: v for k, v in core.items() if v is not None}
    )
    np.savez(folder / f"{split}_ecfp_counts.npz", **tiny_counts(rows))
    return folder / f"{split}_core.npz"


def write_moleculenet(folder, name="tox"):
    """Two tasks on overlapping molecules, the second of which is for testing."""
    np.savez(
        folder / f"{name}.npz",
        offset=np.array([0, 4, 7]),
        mol=np.array([0, 1, 2, 3, 4, 1, 0], np.int32),
        label=np.array([0, 1, 0, 1, 1, 0, 0], np.int8),
        train_tasks=np.array([0]),
        test_tasks=np.array([1]),
    )
    np.savez(folder / f"{name}_ecfp4_counts.npz", **tiny_counts(5))
    return folder / f"{name}.npz"
