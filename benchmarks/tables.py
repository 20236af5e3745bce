"""jmeta beside scikit-learn's defaults on a folder of classification tables.

    python benchmarks/tables.py --data ../shared/data/tabular/pmlb --out results/

Every method sees the same folds in the same process. Tables are tab-separated
`.csv.gz` files with the target in the column `class`, as PMLB stores them; classes
with fewer rows than folds are left out. Results are written after every table, and
a stopped run goes on where it was (`--out` names the folder).
"""

import dataclasses
import json
import pathlib
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
import pandas as pd
import tyro

METRICS = ("log_loss", "auc", "balanced_accuracy", "ece")
Path = pathlib.Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of tables.
      out: where results.csv, summary.csv and ranks.png are written; resumed from.
      model: a meta-model's file or run folder; the shipped one if nothing is said.
      folds: of the outer cross-validation.
      seeds: how many different splits.
      min_rows, max_rows, max_columns: which tables.
      limit: only so many tables, spread over the sizes; 0 for all.
      methods: only these, by name; all if nothing is said. The single best is always
        among them.
      json: print one JSON object and nothing else on stdout.
    """

    data: Path
    out: Path | None = None
    model: str | None = None
    folds: int = 5
    seeds: int = 1
    min_rows: int = 50
    max_rows: int = 2000
    max_columns: int = 100
    limit: int = 0
    methods: tuple[str, ...] = ()
    json: bool = False


def read(path: Path, folds: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Features, and classes as numbers; classes too rare for the folds are left out."""
    frame = pd.read_csv(path, sep="\t")
    counts = frame["class"].value_counts()
    frame = frame[frame["class"].isin(counts[counts >= folds].index)]
    _, y = np.unique(frame["class"], return_inverse=True)
    return frame.drop(columns="class").reset_index(drop=True), y


def chosen(arguments: Arguments) -> list[Path]:
    """The tables of the size asked for, by number of rows."""
    sized = []
    for path in sorted(arguments.data.glob("*.csv.gz")):
        features, y = read(path, arguments.folds)
        rows, columns = features.shape
        if (
            arguments.min_rows <= rows <= arguments.max_rows
            and columns <= arguments.max_columns
            and len(set(y)) > 1
        ):
            sized.append((rows, path))
    paths = [path for _, path in sorted(sized)]
    if arguments.limit and len(paths) > arguments.limit:
        places = np.linspace(0, len(paths) - 1, arguments.limit).round().astype(int)
        paths = [paths[place] for place in places]
    return paths


def methods(arguments: Arguments, seed: int) -> dict[str, Any]:
    """Fresh estimators by name."""
    from sklearn import ensemble, linear_model, neighbors, svm
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from jmeta import MetaClassifierCV
    from jmeta.pipeline import load_models, single_best

    def ours(**options: Any) -> Any:
        return MetaClassifierCV(model=arguments.model, random_state=seed, **options)

    def scaled(model: Any) -> Any:
        return make_pipeline(StandardScaler(), model)

    best = single_best(load_models(arguments.model)["classes"])
    out = {
        "jmeta-0": ours(),
        "jmeta-8": ours(budget=8),
        "jmeta-32": ours(budget=32),
        "single_best": ours(recommendation=best),
        "LogisticRegression": scaled(linear_model.LogisticRegression(max_iter=1000)),
        "SVC": scaled(svm.SVC(probability=True, random_state=seed)),
        "RandomForest": ensemble.RandomForestClassifier(random_state=seed),
        "ExtraTrees": ensemble.ExtraTreesClassifier(random_state=seed),
        "HistGradientBoosting": ensemble.HistGradientBoostingClassifier(
            random_state=seed
        ),
        "KNeighbors": scaled(neighbors.KNeighborsClassifier()),
    }
    try:
        from flaml import default
    except ImportError:
        print("FLAML is not installed: left out", file=sys.stderr)
    else:
        out["FLAML-0-forest"] = default.RandomForestClassifier(random_state=seed)
        out["FLAML-0-lightgbm"] = default.LGBMClassifier(verbose=-1)
    wanted = {*arguments.methods, "single_best"} if arguments.methods else set(out)
    if unknown := wanted - set(out):
        sys.exit(f"tables.py: no method {sorted(unknown)}; there are {sorted(out)}.")
    return {name: model for name, model in out.items() if name in wanted}


def judge(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The scores of one fold; `ece` as in `jmeta.metrics.calibration_error`."""
    from sklearn import metrics

    classes = np.arange(probabilities.shape[1])
    present = np.unique(y)
    areas = [metrics.roc_auc_score(y == c, probabilities[:, c]) for c in present]
    if len(classes) == 2:
        areas = areas[-1:]
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    place = np.clip((confidence * 15).astype(int), 0, 14)
    gaps = np.bincount(place, confidence - (predicted == y), minlength=15)
    return {
        "log_loss": metrics.log_loss(y, probabilities, labels=classes),
        "auc": float(np.mean(areas)),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
        "ece": float(np.abs(gaps).sum() / len(y)),
    }


def run_table(arguments: Arguments, path: Path, seed: int) -> pd.DataFrame:
    """One row a method: scores averaged over the folds, and seconds for all of them.

    Seconds are those of fitting and predicting once everything is compiled.
    """
    from sklearn.model_selection import StratifiedKFold

    features, y = read(path, arguments.folds)
    folds = StratifiedKFold(arguments.folds, shuffle=True, random_state=seed)
    splits = list(folds.split(features, y))
    filled = features.fillna(features.median())
    # A long run of many sizes would fill the memory maps with compiled programs; they
    # come back from the compilation cache on disk.
    jax.clear_caches()
    rows = []
    for name, model in methods(arguments, seed).items():
        ours = name.startswith(("jmeta", "single"))
        x = features if ours else filled
        scores, warm = [], 0.0
        # The last fold once more, now that all it needs is imported and compiled.
        for number, (support, query) in enumerate([*splits, splits[-1]]):
            begin = time.perf_counter()
            model.fit(x.iloc[support], y[support])
            probabilities = np.asarray(model.predict_proba(x.iloc[query]), float)
            warm = (time.perf_counter() - begin) * len(splits)
            if number < len(splits):
                scores.append(judge(y[query], probabilities))
        mean = pd.DataFrame(scores).mean().to_dict()
        table = path.name.removesuffix(".csv.gz")
        about = {"table": table, "seed": seed, "method": name}
        chosen = model.recommendation_.model if ours else ""
        rows.append(about | mean | {"seconds": warm, "chosen": chosen})
    return pd.DataFrame(rows)


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Means over tables and seeds, mean rank, and wins against the single best."""
    wide = results.pivot_table(
        index=["table", "seed"], columns="method", values="log_loss"
    ).dropna()
    summary = results.groupby("method")[[*METRICS, "seconds"]].mean()
    summary["rank"] = wide.rank(axis=1).mean()
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(wide), (2000, len(wide)))
    base = wide["single_best"].to_numpy()
    for name in wide:
        values = wide[name].to_numpy()
        wins = (values < base) + 0.5 * (values == base)
        low, high = np.quantile(wins[draws].mean(1), [0.025, 0.975])
        ratio = values[draws].mean(1) / base[draws].mean(1) - 1
        loss_low, loss_high = np.quantile(ratio, [0.025, 0.975])
        summary.loc[name, ["win_rate", "win_low", "win_high"]] = wins.mean(), low, high
        summary.loc[name, ["vs_single_best", "vs_low", "vs_high"]] = (
            values.mean() / base.mean() - 1,
            loss_low,
            loss_high,
        )
    return summary.sort_values("rank")


def plot(results: pd.DataFrame, path: Path) -> None:
    """Ranks by log loss: a box a method, best on top."""
    from matplotlib.figure import Figure

    wide = results.pivot_table(
        index=["table", "seed"], columns="method", values="log_loss"
    ).dropna()
    ranks = wide.rank(axis=1)
    order = ranks.mean().sort_values(ascending=False).index
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(
        [ranks[name] for name in order],
        orientation="horizontal",
        tick_labels=list(order),
        showmeans=True,
    )
    axes.set_xlabel(f"rank by log loss on {len(wide)} tables (1 is best; ▲ mean)")
    figure.savefig(path, dpi=150)


def main(arguments: Arguments) -> None:
    """Run, summarise, write and print."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    paths = chosen(arguments)
    if not paths:
        sys.exit(f"tables.py: no table of that size in {arguments.data}")
    done = pd.DataFrame(columns=["table", "seed"])
    store = None if arguments.out is None else arguments.out / "results.csv"
    if store is not None and store.exists():
        done = pd.read_csv(store, keep_default_na=False)
    parts = [done]
    for seed in range(arguments.seeds):
        for number, path in enumerate(paths):
            name = path.name.removesuffix(".csv.gz")
            if ((done["table"] == name) & (done["seed"].astype(int) == seed)).any():
                continue
            begin = time.perf_counter()
            parts.append(run_table(arguments, path, seed))
            took = time.perf_counter() - begin
            print(
                f"seed {seed}, {number + 1} of {len(paths)}: {name}, {took:.1f} s",
                file=sys.stderr,
                flush=True,
            )
            if store is not None:
                store.parent.mkdir(parents=True, exist_ok=True)
                merged = pd.concat([p for p in parts if len(p)])
                merged.to_csv(store, index=False)
    results = pd.concat([p for p in parts if len(p)])
    summary = summarise(results)
    if arguments.out is not None:
        summary.to_csv(arguments.out / "summary.csv", float_format="%.5f")
        plot(results, arguments.out / "ranks.png")
    if arguments.json:
        columns = [*METRICS, "rank", "seconds"]
        print(
            json.dumps(
                {
                    "tables": len(paths),
                    "methods": summary[columns].to_dict(orient="index"),
                }
            )
        )
    else:
        print(f"{len(paths)} tables, {arguments.folds} folds, {arguments.seeds} seeds")
        print(summary.round(4).to_string())


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
