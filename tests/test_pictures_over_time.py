"""Pictures over time and over samples: events of a run, tables of sweeps, histories of searches."""

import json

import pytest
from result_files import events, write_events
from test_pictures import coarse, drawn

from geneig_adjoint.errors import InputError
from geneig_adjoint.pictures.draw import draw
from geneig_adjoint.pictures.folders import read_folder
from geneig_adjoint.pictures.searches import searches
from geneig_adjoint.pictures.sweeps import sweeps

pytestmark = pytest.mark.any_scalars

__all__ = ["coarse"]


def test_events_alone_and_cut_by_a_kill(tmp_path):
    from geneig_adjoint.pictures.convergence import timeline

    lines = events()
    write_events(tmp_path, lines)
    path = tmp_path / "events.jsonl"
    path.write_text(path.read_text() + '{"event": "en')
    assert drawn(tmp_path)[0] == ["convergence"]
    found = timeline(lines)
    assert found.steps == [
        ("build model", 0.0, 1.5, True), ("solve eigenproblem", 1.5, 4.4, False),
    ]  # fmt: skip
    assert found.marks == [("checkpoint", 3.0), ("stop", 4.4)]
    assert sorted(found.curves) == [
        "solve eigenproblem: converged", "solve eigenproblem: residual",
    ]  # fmt: skip
    path.write_text('{"event": "en\n{}\n')
    with pytest.raises(InputError, match=r"events.jsonl must be as a run writes it, got JSON"):
        draw(tmp_path)


def test_parts_of_a_resumed_run_follow_each_other():
    from geneig_adjoint.pictures.convergence import timeline

    first = [("begin", "run", 0), ("begin", "solve", 1), ("stop", "solve", 5)]
    second = [("begin", "run", 0.5), ("begin", "solve", 1), ("end", "solve", 4), ("end", "run", 6)]
    lines = [{"event": e, "step": s, "seconds": t} for e, s, t in first + second]
    found = timeline(lines)
    assert found.steps == [("solve", 1.0, 5.0, False), ("solve", 6.0, 9.0, True)]


def test_many_iterations_share_a_row():
    from geneig_adjoint.pictures.convergence import rows_of

    few = [(f"sample {i}", i, i + 1.0, True) for i in range(3)]
    many = [(f"iteration {i}", i, i + 1.0, True) for i in range(1, 10)]
    last = [("write 3 results", 10.0, 11.0, False)]
    assert rows_of([*few, *many, *last]) == [
        *((step[0], [step]) for step in few),
        ("iteration 1 ... 9", many),
        ("write 3 results", last),
    ]


def test_progress_of_iterations_that_share_a_row_is_not_drawn(tmp_path):
    names = {f"kind_{i}": i for i in range(6)}
    lines = [
        {"event": event, "step": f"iteration {i}", "seconds": i + t, **more}
        for i in range(9)
        for t, (event, more) in enumerate(
            [("begin", {}), ("progress", names), ("progress", names), ("end", {})]
        )
    ]
    write_events(tmp_path, lines)
    assert drawn(tmp_path)[1] == ()


def test_only_some_kinds_of_progress_are_drawn(tmp_path):
    names = {f"kind_{i}": i for i in range(6)}
    lines = [{"event": "progress", "step": "solve", "seconds": t, **names} for t in (0, 1)]
    lines[0]["told_once"] = 7  # no curve
    write_events(tmp_path, lines)
    assert drawn(tmp_path)[1] == ("only 4 of 6 kinds of progress are drawn",)


def test_what_begins_anew_is_not_one_curve():
    from geneig_adjoint.pictures.convergence import parts_of

    points = [(0.0, 700.0), (1.0, 768.0), (2.0, 1.0)]
    assert parts_of("contraction of f: elements", points) == [points[:2], points[2:]]
    assert parts_of("solve: residual", points) == [points]


def table(path, *rows):
    head = "sample,folder,model.options.t,solver.which,status,seconds,objective.f1,value.0"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_table_of_a_sweep(tmp_path):
    rows = [f"{i},s{i},{i},a,done,{i},{i**2},{i}" for i in range(5)]
    path = table(tmp_path / "table.csv", *rows, "5,s5,5,a,failed,1,,")
    assert drawn(tmp_path) == (["sweep"], ("1 of 6 samples have no f1",))
    assert draw(path).files == (tmp_path / "pictures" / "sweep.png",)
    assert draw(path, tmp_path / "else", kind="pdf").files == (tmp_path / "else" / "sweep.pdf",)


def test_entry_that_was_varied_over_decades_has_a_logarithmic_axis(tmp_path):
    rows = [f"{i},s{i},{2**i},a,done,1,{i},{i}" for i in range(6)]
    table(tmp_path / "table.csv", *rows)
    (page,) = sweeps(read_folder(tmp_path))
    assert page.figure.axes[0].get_xscale() == "log"
    table(tmp_path / "table.csv", *rows[:4])
    (page,) = sweeps(read_folder(tmp_path))
    assert page.figure.axes[0].get_xscale() == "linear"


def test_many_even_points_have_a_linear_axis_and_small_marks(tmp_path):
    rows = [f"{i},s{i},{i / 1000},a,done,1,{i},{i}" for i in range(1, 1001)]
    table(tmp_path / "table.csv", *rows)
    (page,) = sweeps(read_folder(tmp_path))
    assert page.figure.axes[0].get_xscale() == "linear"
    assert 1 < page.figure.axes[0].lines[0].get_markersize() < 3
    table(tmp_path / "table.csv", *(f"{i},s,{1.1**i},a,done,1,{i},{i}" for i in range(40)))
    (page,) = sweeps(read_folder(tmp_path))
    assert page.figure.axes[0].get_xscale() == "log"


def test_table_without_anything_varied_is_a_note(tmp_path):
    table(tmp_path / "table.csv", "0,s,1,a,done,2,3,4", "1,s,1,a,done,2,3,4")
    names, notes = drawn(tmp_path)
    assert names == []
    assert notes[0].startswith("no sweep: its table must have columns of numbers that were varied")


def test_history_of_a_search(tmp_path):
    rows = [
        {
            "iteration": i,
            "objective": 1 / i,
            "violation": max(0, 3 - i),
            "best": i % 2 == 0,
            "objectives": {"drag": 1 / i, "lift": float(i)},
        }
        for i in range(1, 9)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "history.jsonl").write_text(text)
    assert drawn(tmp_path)[0] == ["optimization"]
    (page,) = searches(read_folder(tmp_path))
    assert [axes.get_ylabel() for axes in page.figure.axes] == ["drag", "violation"]


def test_single_violations_are_seen(tmp_path):
    """Between two designs that hold there is no line to draw."""
    rows = [{"iteration": i, "objective": 1.0, "violation": (-1) ** i} for i in range(1, 99)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (page,) = searches(read_folder(tmp_path))
    assert page.figure.axes[1].lines[0].get_marker() == "."
