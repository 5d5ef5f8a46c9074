"""Which rows a tracker has to send."""

from pathlib import Path

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import files
from vae_sweeps.tracker.rows import RowTail


def test_rows_are_kept_until_they_are_dropped_and_a_line_until_it_is_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tail = RowTail(run)
    assert tail.rows() == []
    run.rows.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert tail.rows() == [{"step": 1}, {"step": 2}]
    tail.drop(1)
    with run.rows.open("a") as file:
        file.write('ep": 3}\n')
    assert tail.rows() == [{"step": 2}, {"step": 3}]


def test_rows_of_a_file_that_was_replaced_are_forgotten(tmp_path: Path) -> None:
    """A pack that fails trains again from its checkpoint, with a new file for each run."""
    run = RunFolder(tmp_path)
    tail = RowTail(run)
    files.write_whole(run.rows, '{"step": 1, "time_s": 1.0}\n{"step": 2, "time_s": 2.0}\n')
    assert len(tail.rows()) == 2
    files.write_whole(run.rows, '{"step": 1, "time_s": 1.0}\n{"step": 2, "time_s": 2.5}\n')
    assert tail.rows() == [{"step": 1, "time_s": 1.0}, {"step": 2, "time_s": 2.5}]
