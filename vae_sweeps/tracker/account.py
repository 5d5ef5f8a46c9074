"""Checks whether W&B can be used: server address, API key, reachable server. Fast, and does not import wandb."""

import configparser
import contextlib
import netrc
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

HOW_TO_LOG_IN = "`wandb login`, or set WANDB_API_KEY"
_PROBE_S = 1.8


def base_url() -> str:
    """The server's URL: WANDB_BASE_URL, else the one that `wandb login --host` wrote, else W&B's public server."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url.rstrip("/")
    config = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    settings = configparser.ConfigParser()
    with contextlib.suppress(configparser.Error, OSError):
        settings.read(config / "settings")
    return settings.get("default", "base_url", fallback="https://api.wandb.ai").rstrip("/")


def has_key() -> bool:
    """Whether the environment or netrc holds a key for the server; the key itself is not checked."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    candidates = [Path(os.environ[name]) for name in ("NETRC",) if os.environ.get(name)]
    for path in candidates or [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(path.expanduser()).authenticators(urlparse(base_url()).hostname or ""):
                return True
    return False


def require_key(what: str, otherwise: str = "") -> None:
    """Raise ValueError if there is no key; the message begins with `what` and ends with `otherwise`, an alternative."""
    if not has_key():
        raise ValueError(f"{what}: there is no key for {base_url()}; {HOW_TO_LOG_IN}{otherwise}")


def answers() -> bool:
    """Whether the server answers within two seconds; any response but a 5xx error counts."""
    results: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(base_url(), timeout=_PROBE_S):
                results.append(True)
        except urllib.error.HTTPError as error:
            results.append(error.code < 500)
        except (OSError, ValueError):
            results.append(False)

    # In a thread, because a DNS lookup has no timeout.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_S)
    return bool(results and results[0])
