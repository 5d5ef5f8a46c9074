"""Whether W&B can be reached: its address, a key, and a server that answers. Quick, and without importing wandb."""

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
    """The server's address: WANDB_BASE_URL, else what `wandb login --host` wrote, else W&B's own."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url.rstrip("/")
    config = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    settings = configparser.ConfigParser()
    with contextlib.suppress(configparser.Error, OSError):
        settings.read(config / "settings")
    return settings.get("default", "base_url", fallback="https://api.wandb.ai").rstrip("/")


def has_key() -> bool:
    """Whether there is a key for the server, in the environment or in netrc; nothing is said of its worth."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    candidates = [Path(os.environ[name]) for name in ("NETRC",) if os.environ.get(name)]
    for path in candidates or [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(path.expanduser()).authenticators(urlparse(base_url()).hostname or ""):
                return True
    return False


def require_key(what: str, otherwise: str = "") -> None:
    """Raise ValueError where there is no key for `what`; `otherwise` is what to do beside logging in."""
    if not has_key():
        raise ValueError(f"{what}: there is no key for {base_url()}; {HOW_TO_LOG_IN}{otherwise}")


def check(mode: str) -> None:
    """Raise ValueError where `mode`=online cannot be, since there is no key."""
    if mode == "online":
        require_key("tracker.mode=online", ", or take auto")


def answers() -> bool:
    """Whether the server answers, whatever it says short of an error of its own; known in under two seconds."""
    found: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(base_url(), timeout=_PROBE_S):
                found.append(True)
        except urllib.error.HTTPError as error:
            found.append(error.code < 500)
        except (OSError, ValueError):
            found.append(False)

    # A thread, since the time that looking up a name takes cannot be limited.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_S)
    return bool(found and found[0])
