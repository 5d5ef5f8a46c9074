"""`vae-sweeps watch`, with a real browser on it while a real sweep trains."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import ROOT, start_launch, wait_until
from vae_sweeps.runs.sweep_folder import SweepFolder

pytestmark = pytest.mark.slow


def test_the_page_follows_a_sweep_and_ends_with_the_command(browser: Browser, tmp_path: Path) -> None:
    """The points end while the page is open; nobody reloads it. A menu keeps its choice."""
    own = ["arch.hidden=[16]", "steps=3000", "evaluation=none", f"output_dir={tmp_path}", "sweep=grid"]
    training = start_launch("-m", "beta=0,1", "latent=2,4", *own)
    wait_until(lambda: SweepFolder.under(tmp_path, "grid").path.is_dir(), training)
    code = "from vae_sweeps.cli.app import main; main()"
    watching = subprocess.Popen(
        [sys.executable, "-c", code, "watch", "grid", "--output-dir", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert watching.stdout is not None
    line = watching.stdout.readline()
    address = re.match(r"(http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)$", line)
    assert address is not None, line
    errors = list[str]()
    page = browser.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address[1])
    page.get_by_label("Search").fill("mlp")
    page.get_by_label("all columns").check()
    page.get_by_role("heading", name="Table").click()  # leaves the field, so that the page may be renewed
    live = page.locator("#live")
    expect(live).to_contain_text("4 done", timeout=120_000)
    training.communicate(timeout=120)
    expect(page.locator("#points-table tbody tr", has_text="done")).to_have_count(4, timeout=60_000)
    expect(page.get_by_label("Search")).to_have_value("mlp")
    expect(page.get_by_label("all columns")).to_be_checked()
    assert page.content().count("What is missing") == 0
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=30) == 0
    assert watching.stdout.read() == ""
    expect(live).to_contain_text("no longer served", timeout=30_000)
    assert errors == []
    page.close()
