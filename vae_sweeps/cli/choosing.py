"""Subcommands that choose and compare: the best points of a sweep, two sweeps, two runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vae_sweeps.cli.arguments import OUTPUTS, OutputDir, Run, Runs, Sweep, refuse, refusing
from vae_sweeps.cli.text import aligned

if TYPE_CHECKING:
    from vae_sweeps.analysis.comparison import Comparison
    from vae_sweeps.runs.run_folder import RunFolder

By = Annotated[str, typer.Option("--by", metavar="COLUMN", help="A column of the table.")]


def best(
    sweep: Runs,
    by: By = "val/elbo",
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many points to show.")] = 1,
    output_dir: OutputDir = OUTPUTS,
) -> None:
    """Show the best points of a sweep, and the commands that train them.

    Whether higher or lower is better is known for each column. By default points are chosen by the validation ELBO at
    beta = 1, so that the test split only reports. Only finished points are compared.
    """
    from rich.console import Console

    from vae_sweeps.analysis import columns as selection
    from vae_sweeps.analysis import table, terminal
    from vae_sweeps.runs.known_results import KnownResults

    with refusing():
        metric = _with_direction(by)
        folders, swept = table.find_runs(sweep, output_dir)
        frame = table.make_table(folders, swept, KnownResults())
        has_value = (frame["status"] == "done") & (frame[by].notna() if by in frame else False)
        done = selection.sorted_by(frame.loc[has_value], by if metric.better == "lower" else f"-{by}")
        if not len(done):
            raise ValueError(f"{sweep}: no finished point has a value of {by}")
    rows = done.head(top).reset_index(drop=True)
    console = Console(highlight=False)
    if console.is_terminal:
        terminal.show(rows, [*swept, by], out=console)
    else:
        typer.echo(terminal.plain(rows))
    by_name = {folder.name: folder for folder in folders}
    typer.echo(
        f"the best of {len(done)} points by {by} ({metric.better} is better), with the commands that train them:"
    )
    for name in map(str, rows["run"]):
        typer.echo(f"  {by_name[name].path}\n    {by_name[name].read_command() or 'its command is not known'}")


def _with_direction(column: str) -> Any:
    """The metric in a column. Raises ValueError if there is none, or if neither direction is better."""
    from vae_sweeps.runs import catalogue

    metric = catalogue.of_table(column)
    if metric.better is None:
        raise ValueError(f"--by={column}: neither direction is better; choose another column")
    return metric


def compare(first: Sweep, second: Sweep, by: By = "test/elbo", output_dir: OutputDir = OUTPUTS) -> None:
    """Compare two sweeps: what differs in config, and in numbers.

    Points with equal configs, but for the keys in which the sweeps differ, are paired, seed by seed. The error is the
    standard error of the mean difference over seeds, without what the seeds have in common.
    """
    from vae_sweeps.analysis import comparison, table
    from vae_sweeps.runs import catalogue
    from vae_sweeps.runs.known_results import KnownResults
    from vae_sweeps.runs.sweep_folder import get_sweep

    with refusing():
        metric = catalogue.of_table(by)
        sweeps = [get_sweep(sweep, output_dir) for sweep in (first, second)]
        records = [table.read_records(sweep.runs(), KnownResults()) for sweep in sweeps]
        swept = [key for sweep in sweeps for key in sweep.swept()]
        frame = table.table_of([*records[0], *records[1]], swept)
        if by not in frame:
            raise ValueError(f"{by}: no point of {first} and {second} has a value of it")
        found = comparison.compare(frame.head(len(records[0])), frame.tail(len(records[1])), by)
    for key, (one, other) in found.differing.items():
        typer.echo(f"{key}: {one} in {first}, {other} in {second}")
    if not found.differing:
        typer.echo("the sweeps have no fixed key that differs")
    if not len(found.rows):
        refuse(f"{first} and {second}: no finished points have equal configs but for these keys, and equal seeds")
    better = f", {metric.better} is better" if metric.better else ""
    typer.echo(f"\n{catalogue.with_unit(by)}{better}; {second} minus {first}, ± the standard error over seeds:")
    typer.echo(_differences(found))
    if len(found.rows) > 1:
        mean, error = found.mean_difference()
        typer.echo(f"mean difference of {len(found.rows)} pairs of points: {mean:+.4g} ± {error:.2g}")
    if any(found.unpaired):
        typer.echo(f"without a partner: {found.unpaired[0]} of {first}, {found.unpaired[1]} of {second}")


def _differences(found: "Comparison") -> str:
    """The pairs as a table."""
    import math

    header = [*found.keys, "first", "second", "difference", "±", "seeds"]
    lines = [header]
    for row in found.rows.to_dict("records"):
        error = "" if math.isnan(row["se"]) else f"{row['se']:.2g}"
        numbers = [f"{row['first']:.2f}", f"{row['second']:.2f}", f"{row['difference']:+.4g}", error, str(row["n"])]
        lines.append([*(str(row[key]) for key in found.keys), *numbers])
    return "\n".join(aligned(lines, ">" * len(header)))


def diff(first: Run, second: Run, output_dir: OutputDir = OUTPUTS) -> None:
    """Show how two runs differ in config, code, data and numbers.

    Changes nothing.
    """
    from vae_sweeps.config.keys import as_typed, dotted
    from vae_sweeps.runs.finding import find_run

    with refusing():
        runs = [find_run(run, output_dir) for run in (first, second)]
        configs = [dotted(run.read_config()) for run in runs]
    results = [run.read_result() or {} for run in runs]
    facts = [_facts(run, result) for run, result in zip(runs, results, strict=True)]
    metrics = [result.get("metrics", {}) for result in results]
    for title, (one, other) in (("config", configs), ("circumstances", facts), ("numbers", metrics)):
        rows = [
            (key, *("-" if key not in side else as_typed(side[key]) for side in (one, other)))
            for key in dict.fromkeys([*one, *other])
            if one.get(key) != other.get(key)
        ]
        typer.echo(f"{title}:" if rows else f"{title}: equal")
        for line in aligned(rows, "<<<") if rows else ():
            typer.echo(f"  {line}")


def _facts(run: "RunFolder", result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's numbers may depend on, besides its config."""
    names = ("status", "step", "git_commit", "data_fingerprint", "torch", "device", "host", "num_devices", "pack_size")
    facts: dict[str, Any] = {name: result[name] for name in (*names, "time_s") if name in result}
    if digest := run.source_digest():
        facts["source"] = digest
    if run.code_diff.exists():
        num_lines = len(run.code_diff.read_text(errors="replace").splitlines())
        facts["changes of the code"] = f"{num_lines} lines of code.diff"
    return facts
