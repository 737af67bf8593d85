"""The store: only a sealed, untouched folder is a result; locks, listing and cleaning tell the truth."""

import json
import os
from pathlib import Path

import pytest

from lib.engine.store import METRICS, STATUS, Metric, Pruned, Run, Store, read_metrics, write_json
from lib.project import Project

KEY = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Project(tmp_path))


def publish(store: Store, state: str = "ok", value: float = 1.0) -> Run:
    """A run made by hand and published under its lock."""
    with store.locked("toy", KEY) as free:
        assert free
        partial = store.new_partial("toy", KEY)
        write_json(partial / METRICS, {"m": {"value": value, "unit": "GMAC", "seed": 3}})
        status = {
            "state": state,
            "reason": "",
            "profile": "smoke",
            "seed": 3,
            "seconds": 2.5,
            "finished": "now",
        }
        return store.publish(partial, "toy", KEY, status)


def test_published_run_is_read_back(store: Store) -> None:
    published = publish(store)
    assert store.get("toy", KEY) == published
    assert store.runs() == [published]
    assert (published.state, published.seed, published.seconds) == ("ok", 3, 2.5)
    assert published.metrics == {"m": Metric("m", 1.0, "GMAC", 3)}
    assert published.id == "toy/0123456789abcdef"


def test_empty_store_has_no_runs(store: Store) -> None:
    assert store.runs() == []
    assert store.get("toy", KEY) is None


def test_new_run_replaces_an_old_one_of_its_key(store: Store) -> None:
    publish(store, "failed")
    publish(store, "ok", value=2.0)
    (run,) = store.runs()
    assert run.metrics["m"].value == 2.0
    assert sorted(path.name for path in run.path.parent.iterdir()) == [".locks", KEY[:16]]


def test_run_replaced_halfway_is_put_back(store: Store) -> None:
    run = publish(store)
    run.path.rename(run.path.with_name(f".old-{KEY[:16]}"))
    with store.locked("toy", KEY):
        store.clean("toy", KEY)
    assert store.get("toy", KEY) == run


def test_failed_run_has_no_metrics(store: Store) -> None:
    assert publish(store, "failed").metrics == {}


@pytest.mark.parametrize("name", [METRICS, STATUS])
@pytest.mark.parametrize("keep", [0, 10])
def test_torn_file_is_never_a_result(store: Store, name: str, keep: int) -> None:
    path = publish(store).path / name
    path.write_bytes(path.read_bytes()[:keep])
    (run,) = store.runs()
    assert run.state == "failed"
    assert run.reason.startswith("torn: ")
    assert run.metrics == {}


def test_altered_metric_is_never_a_result(store: Store) -> None:
    path = publish(store).path / METRICS
    path.write_text(path.read_text().replace("1.0", "9.0"))
    (run,) = store.runs()
    assert (run.state, run.reason) == ("failed", "torn: metrics.json is not what the run wrote")


def test_folder_without_a_status_is_never_a_result(store: Store) -> None:
    (publish(store).path / STATUS).unlink()
    (run,) = store.runs()
    assert (run.state, run.reason) == ("failed", "torn: status.json is missing")


def test_partial_folder_that_nobody_holds_is_interrupted(store: Store) -> None:
    with store.locked("toy", KEY):
        store.new_partial("toy", KEY)
    (run,) = store.runs()
    assert (run.state, run.key) == ("interrupted", KEY[:16])


def test_partial_folder_that_somebody_holds_is_running(store: Store) -> None:
    with store.locked("toy", KEY):
        store.new_partial("toy", KEY)
        (run,) = store.runs()
        assert (run.state, run.reason) == ("running", f"being run by process {os.getpid()}")


def test_lock_is_exclusive_and_released(store: Store) -> None:
    with store.locked("toy", KEY) as first, store.locked("toy", KEY) as second:
        assert (first, second) == (True, False)
    with store.locked("toy", KEY) as again:
        assert again


def test_lock_of_another_key_is_free(store: Store) -> None:
    with store.locked("toy", KEY), store.locked("toy", "f" * 64) as free:
        assert free


def test_worse_run_is_set_aside_and_the_better_one_stays(store: Store) -> None:
    better = publish(store, "ok")
    for state in ("failed", "incomplete", "failed"):
        worse = publish(store, state)
        assert (worse.state, worse.path.name) == (state, f".failed-{KEY[:16]}")
        assert store.runs() == [better]


def test_good_run_clears_what_was_set_aside(store: Store) -> None:
    publish(store, "ok", value=1.0)
    aside = publish(store, "failed")
    again = publish(store, "ok", value=2.0)
    assert store.get("toy", KEY) == again
    assert again.metrics["m"].value == 2.0
    assert not aside.path.exists()


def test_torn_run_is_replaced_by_any(store: Store) -> None:
    (publish(store).path / STATUS).write_text("{")
    replacing = publish(store, "failed")
    assert store.runs() == [replacing]


def test_pruning_removes_failed_and_interrupted_runs_that_nobody_holds(store: Store) -> None:
    good, aside, other = publish(store), publish(store, "failed"), "f" * 64
    with store.locked("toy", other):
        partial = store.new_partial("toy", other)
        assert store.prune() == Pruned((aside.path,), (), ())
    assert store.prune() == Pruned((), (partial,), ())
    assert store.runs() == [good]


def test_pruning_removes_folders_of_dead_batches_only(store: Store) -> None:
    dead = store.root / ".batch-dead"
    with store.batch_folder() as alive:
        dead.mkdir()
        write_json(dead / "holder.json", {"pid": os.getpid(), "started": 1.0})
        assert store.prune() == Pruned((), (), (dead,))
        assert alive.is_dir()


def test_pruning_keeps_to_the_papers_named(store: Store) -> None:
    run = publish(store, "failed")
    assert store.prune(["other"]) == Pruned((), (), ())
    assert store.prune(["toy"]) == Pruned((run.path,), (), ())


@pytest.mark.parametrize("text", ['{"m": {"value": NaN}}', '{"m": {"value": "1"}}', '{"m": 1}', "[]", '{"m"'])
def test_metrics_that_are_no_finite_numbers_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / METRICS
    path.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - a torn file gives json's own message
        read_metrics(path)


def test_write_json_leaves_the_old_file_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == 1
