"""How long it takes to write and to open the report of 100 and of 1,000 points, and how large it is.

    python -m benchmarks.report

One tiny run is trained and copied; each copy gets another beta and latent size and other metrics. Opening is measured
in a headless Chromium: from navigation until the first page of the table, and until the first figure, is shown.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from vae_sweeps.report import contents, page
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

TINY = ["epochs=20", "log_every_steps=10", "tracker=none", "beta=0.5", "latent=3", "seed=0"]
NUM_LATENTS, ROUNDS = 10, 3
SHOWN = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return [document.querySelectorAll("#points-table tbody tr").length, performance.now()];
}"""


def train_one(output_dir: Path) -> RunFolder:
    """Train a run with rows, pictures and the default evaluation."""
    subprocess.run([sys.executable, "launch.py", *TINY, f"output_dir={output_dir}"], check=True, stdout=sys.stderr)
    (run,) = all_runs(output_dir)
    return run


def make_sweep(run: RunFolder, num: int) -> SweepFolder:
    """Make a sweep of `num` copies of `run` in its output folder; pictures are hard links to the same files."""
    sweep, draw = SweepFolder.under(run.output_dir, f"{num}-points"), random.Random(0)
    point, options, result = run.read_point(), run.read_launch_options(), run.read_result()
    assert result is not None
    names = [f"copy-of-{num}-{i:04d}" for i in range(num)]
    sweep.add(names, ["beta", "latent"])
    for i, copy in enumerate(sweep.runs()):
        beta, latent = 0.5 + i // NUM_LATENTS, 2 + i % NUM_LATENTS
        copy.create(replace(point, beta=beta, latent=latent), options, [])
        shutil.copytree(run.pictures, copy.pictures, copy_function=os.link)
        shutil.copy(run.rows, copy.rows)
        numbers = {name: value for name, value in result["metrics"].items() if isinstance(value, float)}
        others = {name: value * draw.uniform(0.8, 1.2) for name, value in numbers.items()}
        copy.write_result(result | {"metrics": result["metrics"] | others})
    return sweep


def open_s(browser: Browser, file: Path) -> tuple[float, float]:
    """Seconds until the table is on the screen, and until the first figure is."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    opened.goto(file.as_uri(), wait_until="commit")
    opened.wait_for_selector("#points-table tbody tr")
    rows, table_ms = opened.evaluate(SHOWN)
    assert rows > 0
    opened.evaluate("document.querySelector('[data-plot]').scrollIntoView({ behavior: 'instant' })")
    opened.wait_for_selector("[data-plot] .main-svg")
    figure_ms = opened.evaluate("performance.now()")
    context.close()
    return table_ms / 1000, figure_ms / 1000


def main() -> None:
    """Train one run, copy it, write and open the reports, and print a table."""
    chromium = shutil.which("chromium")
    shown = Table("points", "written in, s", "MB", "table after, s", "first figure after, s")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        run = train_one(Path(place))
        for num in (100, 1000):
            sweep = make_sweep(run, num)
            began = time.perf_counter()
            file = page.write(contents.read([sweep]), sweep.report)
            took_s = time.perf_counter() - began
            table_s, figure_s = map(
                statistics.median, zip(*(open_s(browser, file) for _ in range(ROUNDS)), strict=True)
            )
            size_mb = file.stat().st_size / 1e6
            shown.add_row(str(num), f"{took_s:.1f}", f"{size_mb:.1f}", f"{table_s:.1f}", f"{figure_s:.1f}")
        browser.close()
    Console().print(shown)


if __name__ == "__main__":
    main()
