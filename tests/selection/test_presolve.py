"""Short runs before descriptions: those that pay, found on training tasks alone."""

import json

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.data.metadataset import write_folder
from jmeta.evaluation import Recommended, paid, scores
from jmeta.selection import experts, presolve, selector, study
from jmeta.selection.inputs import Inputs
from jmeta.selection.mixture import Mixture

CUTOFF = 1000.0
GRID = [CUTOFF / 10 / 2**k for k in range(9, -1, -1)]
EMPTY = selector.Selected(*[None] * len(selector.Selected._fields))


def times(costs, solved=None):
    """A meta-dataset of runtimes; what is not above the cutoff is solved."""
    tasks, candidates = costs.shape
    data = meta_dataset(tasks, candidates, runtime=True)
    return data._replace(
        costs=np.where(costs > CUTOFF, 10 * CUTOFF, costs),
        solved=costs <= CUTOFF if solved is None else solved,
        metric=data.metric._replace(cutoff=CUTOFF),
    )


def choosing(chosen, charged, train):
    """What fits would have chosen, had they been trained."""
    mixture = Mixture(*[None] * len(Mixture._fields))
    return EMPTY._replace(
        mixture=mixture._replace(chosen=np.array(chosen)),
        charged=np.broadcast_to(charged, train.shape).astype(float),
        inputs=Inputs(*[None] * len(Inputs._fields))._replace(train=train),
    )


def cost_of(data, task, steps, chosen, charged):
    """One task by hand, as it would be run."""
    clock = 0.0
    for solver, seconds in steps:
        if data.solved[task, solver] and data.costs[task, solver] <= seconds:
            return clock + data.costs[task, solver]
        clock += seconds
    if not data.solved[task, chosen]:
        return 10 * CUTOFF
    end = clock + charged + data.costs[task, chosen]
    return end if end <= CUTOFF else 10 * CUTOFF


def best_schedule(data, selected, fit):
    """The greedy schedule by trying every step on every training task."""
    steps, train = [], np.flatnonzero(selected.inputs.train[fit])

    def mean_costs(steps):
        told = zip(train, selected.mixture.chosen[fit, train])
        return np.array(
            [cost_of(data, t, steps, c, selected.charged[fit, t]) for t, c in told]
        )

    for _ in range(3):
        now, found = mean_costs(steps), []
        for seconds in GRID:
            if sum(s for _, s in steps) + seconds > CUTOFF / 10:
                continue
            for solver in range(len(data.candidates)):
                saved = now - mean_costs([*steps, (solver, seconds)])
                if saved.mean() > presolve.SURE * saved.std() / len(saved) ** 0.5:
                    found.append((round(saved.mean(), 6), (solver, seconds)))
        if not found:
            break
        _, step = max(found, key=lambda one: one[0])
        steps.append(step)
    return steps


def steps_of(made, fit):
    pairs = zip(made.solvers[fit].tolist(), made.seconds[fit].tolist())
    return [pair for pair in pairs if pair[1] > 0]


@pytest.mark.parametrize("seed", range(4))
def test_schedules_and_their_costs_are_those_of_trying_everything(seed):
    rng = np.random.default_rng(seed)
    costs = 10 ** rng.uniform(-1.5, 3.6, (120, 5))
    costs[rng.random(costs.shape) < 0.02] = 0.0
    data = times(costs)
    folds = np.arange(120) % 3
    train = folds != np.arange(3)[:, None]
    chosen = rng.integers(5, size=(3, 120))
    selected = choosing(chosen, rng.uniform(0, 80, (3, 120)), train)
    made = presolve.schedules(data, selected)
    for fit in range(3):
        steps = best_schedule(data, selected, fit)
        assert steps_of(made, fit) == steps and len(steps) > 0
        assert sum(seconds for _, seconds in steps) <= CUTOFF / 10
    rows = np.arange(120)
    told = Recommended(
        order=chosen[folds, rows][:, None], charged=selected.charged[folds, rows]
    )
    later = presolve.presolved(data, made, folds, told)
    found = paid(data, later.charged)[rows, later.order[:, 0]]
    wanted = [
        cost_of(data, t, steps_of(made, f), chosen[f, t], selected.charged[f, t])
        for t, f in enumerate(folds)
    ]
    np.testing.assert_allclose(found, wanted)


def quick_solver(num_tasks=200):
    """Solver 0 ends 3 of 10 tasks in a second, 1 or 2 any other in a hundred."""
    quick = np.arange(num_tasks) % 10 < 3
    costs = np.full((num_tasks, 3), 2 * CUTOFF)
    costs[quick, 0] = 1.0
    costs[np.arange(num_tasks), 1 + np.arange(num_tasks) % 2] = 100.0
    return times(costs), quick


def test_a_quick_solver_before_dear_descriptions_wins_what_it_must():
    data, quick = quick_solver()
    rows = np.arange(200)
    folds = rows // 10 % 5
    train = folds != np.arange(5)[:, None]
    chosen = np.tile(1 + rows % 2, (5, 1))
    made = presolve.schedules(data, choosing(chosen, 50.0, train))
    seconds = 100 / 64  # The least of the grid in which a second fits.
    assert all(steps_of(made, fit) == [(0, seconds)] for fit in range(5))
    plain = Recommended(order=chosen[0][:, None], charged=np.full(200, 50.0))
    later = presolve.presolved(data, made, folds, plain)
    # The oracle needs a second on the quick tasks and a hundred on the others; the
    # single best fails on every other task that it does not solve.
    oracle, single = 0.3 * 1 + 0.7 * 100, 0.5 * 100 + 0.5 * 10 * CUTOFF
    wanted = 0.3 * 1 + 0.7 * (seconds + 50 + 100)
    found = scores(data, folds, later)["npar10"]
    np.testing.assert_allclose(found, (wanted - oracle) / (single - oracle))
    found = scores(data, folds, plain)["npar10"]
    np.testing.assert_allclose(found, (150 - oracle) / (single - oracle))
    assert (later.charged[quick] == 0).all() and (later.order[quick] == 0).all()


@pytest.mark.parametrize("what", ["right", "slow", "tight"])
def test_no_schedule_is_used_where_none_pays(what):
    data, quick = quick_solver()
    train = np.ones((1, 200), bool)
    chosen, charged = 1 + np.arange(200) % 2, 50.0
    if what == "right":  # The choice is free and has nothing to learn.
        chosen, charged = np.where(quick, 0, chosen), 0.0
    if what == "slow":  # Nothing ends within a tenth of the cutoff.
        slow = np.where(data.solved, data.costs + 101, 2 * CUTOFF)
        data = times(slow)
    if what == "tight":  # Any second more, and every choice fails.
        charged = CUTOFF - 100
    made = presolve.schedules(data, choosing(chosen[None], charged, train))
    assert not made.seconds.any()


@pytest.mark.parametrize("lucky, used", [(1, False), (4, True)])
def test_a_step_must_pay_by_more_than_two_standard_errors(lucky, used):
    # Of 100 tasks some are saved from failing: 100 n - 1.6 in the mean, with standard
    # errors of 100 and 196.
    costs = np.full((100, 2), 10.0)
    costs[:, 0] = 2 * CUTOFF
    costs[:lucky] = [1.0, 2 * CUTOFF]
    selected = choosing(np.ones((1, 100), int), 0.0, np.ones((1, 100), bool))
    made = presolve.schedules(times(costs), selected)
    assert bool(made.seconds.any()) is used


def test_runs_that_did_not_end_well_solve_nothing():
    # Means over repetitions: solved and late, unsolved and early, never run.
    costs = np.tile([[1500.0, 5.0, np.nan, 100.0]], (40, 1))
    data = times(
        np.full((40, 4), 100.0), solved=np.tile([True, False, False, True], (40, 1))
    )
    data = data._replace(costs=costs)
    selected = choosing(np.full((1, 40), 3), 80.0, np.ones((1, 40), bool))
    made = presolve.schedules(data, selected)
    assert steps_of(made, 0) == [(3, 100.0)]


def test_only_training_tasks_decide():
    rng = np.random.default_rng(0)
    costs = 10 ** rng.uniform(-1.5, 3.6, (120, 5))
    train = np.stack([np.arange(120) < 60, np.arange(120) >= 30])
    chosen = rng.integers(5, size=(2, 120))
    selected = choosing(chosen, 30.0, train)
    made = presolve.schedules(times(costs), selected)
    costs[60:], chosen[0, 60:] = 10 ** rng.uniform(-1.5, 3.6, (60, 5)), 0
    other = presolve.schedules(times(costs), choosing(chosen, 30.0, train))
    assert steps_of(made, 0) and steps_of(made, 0) == steps_of(other, 0)
    assert steps_of(made, 1) != steps_of(other, 1)


def test_costs_that_are_no_runtimes_are_refused():
    data = meta_dataset(40)
    selected = choosing(np.zeros((1, 40), int), 0.0, np.ones((1, 40), bool))
    with pytest.raises(ValueError, match="must be runtimes"):
        presolve.schedules(data, selected)


@pytest.fixture
def learnable(monkeypatch):
    """Descriptions decide between two solvers and cost half of what those need."""
    monkeypatch.setattr(experts, "NUM_TREES", 20)
    data, _ = quick_solver(120)
    rng = np.random.default_rng(0)
    x = np.stack([np.arange(120) % 2, *rng.random((2, 120))], axis=1)
    folds = np.arange(120)[None] // 10 % 4
    dear = np.broadcast_to([50.0, 0.0], (120, 2))
    return data._replace(descriptions=x, group_costs=dear, folds=folds)


@pytest.mark.slow
def test_a_trained_selector_takes_the_schedule_without_looking_at_test_tasks(learnable):
    data = learnable
    train = (data.folds[0] != 0)[None]
    made = []
    for costs in (data.costs, np.where(train.T, data.costs, data.costs[:, ::-1])):
        changed = data._replace(costs=costs, solved=costs <= CUTOFF)
        selected = selector.select(changed, train, np.zeros(1, np.uint32))
        made.append(presolve.schedules(changed, selected))
    assert steps_of(made[0], 0) == steps_of(made[1], 0)
    assert steps_of(made[0], 0)[0] == (0, 100 / 64)


@pytest.mark.slow
def test_both_rows_come_from_one_training(learnable, tmp_path, run, monkeypatch):
    trained = []

    def select(*args, **settings):
        trained.append(args)
        return selector.select(*args, **settings)

    monkeypatch.setattr(study, "select", select)
    folder, page = tmp_path / "quick", tmp_path / "page.html"
    write_folder(folder, learnable._replace(name="quick"))
    args = ["evaluate", folder, "--seeds", "1", "--methods", "jmeta", "single_best"]
    _, out, _ = run(*args, "--json")
    alone = json.loads(out)["methods"]
    code, out, _ = run(*args, "--json", "--presolve", "--report", page)
    found = json.loads(out)["methods"]
    assert code == 0 and len(trained) == 2
    assert list(found) == ["jmeta", "jmeta_presolved", "single_best"]
    assert found["jmeta"]["npar10"] == alone["jmeta"]["npar10"]
    assert found["jmeta_presolved"]["npar10"] < found["jmeta"]["npar10"] - 0.005
    steps, seconds = (found["jmeta_presolved"][key] for key in ("steps", "schedule"))
    assert 1 <= steps <= 3 and 100 / 64 <= seconds <= 100
    note = f"{steps:.1f} short runs of together {seconds:.3g} seconds"
    assert note in page.read_text()


@pytest.mark.slow
def test_without_runtimes_nothing_is_presolved_and_without_jmeta_it_is_refused(
    tmp_path, run, monkeypatch
):
    monkeypatch.setattr(experts, "NUM_TREES", 10)
    folder = tmp_path / "meta"
    write_folder(folder, meta_dataset()._replace(name="meta"))
    args = ["evaluate", folder, "--presolve", "--seeds", "1", "--methods"]
    code, out, _ = run(*args, "jmeta", "--json")
    assert code == 0 and list(json.loads(out)["methods"]) == ["jmeta"]
    code, out, err = run(*args, "single_best")
    assert code == 2 and not out and "needs jmeta among the --methods" in err
