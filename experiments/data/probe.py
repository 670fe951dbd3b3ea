"""A question put to a server before a download whose retries would last for minutes."""

import threading

import requests

LIMIT = 3.0


def why_unreachable(url: str, limit: float = LIMIT) -> str | None:
    """Asks for the first bytes of `url`, with the proxies and certificates of the environment.

    Args:
      url: an http or https address.
      limit: longest time to wait, in seconds, name resolution included.

    Returns:
      None if the server offers the file, else the reason why not.
    """
    answer: list[str | None] = []
    # No timeout of a socket covers name resolution, so the limit is on a thread; as a daemon it
    # cannot hold up the exit of the program either.
    thread = threading.Thread(target=lambda: answer.append(_ask(url, limit)), daemon=True)
    thread.start()
    thread.join(limit)
    return answer[0] if answer else f"no answer within {limit:g} s"


def _ask(url: str, limit: float) -> str | None:
    try:
        with requests.get(url, stream=True, timeout=limit) as response:
            return None if response.ok else f"HTTP status {response.status_code}"
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
