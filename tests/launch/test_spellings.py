"""Spellings of a command that Hydra does not take."""

from vae_sweeps.launch import spellings


def test_options_may_stand_anywhere() -> None:
    first = ["-m", "--config-dir", "here", "beta=1", "latent=2"]
    for command in (
        ["beta=1", "-m", "latent=2", "--config-dir", "here"],
        ["beta=1", "-m", "--config-dir", "here", "latent=2"],
    ):
        assert sorted(spellings.for_hydra(command)) == sorted(first)
        assert spellings.for_hydra(command)[-2:] == ["beta=1", "latent=2"]
    assert spellings.for_hydra(["beta=1", "--info", "latent=2", "-c", "job"]) == [
        "--info",
        "-c",
        "job",
        "beta=1",
        "latent=2",
    ]
