# ruff: noqa: INP001  a program by itself, of no package
"""Ends with 0 where the console of this container says that it is alive (HEALTHCHECK).

BRIDGE_HEALTH_URL is where it listens; the certificate of a console with TLS names another host than this one, and is
not looked at: nothing is told to it.
"""

import os
import ssl
import sys
import urllib.request

ADDRESS = os.environ.get("BRIDGE_HEALTH_URL", "http://127.0.0.1:8080/healthz")


def main() -> int:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with direct.open(ADDRESS, timeout=8) as answer:
            return int(answer.read() != b"alive\n")
    except OSError as problem:
        sys.stderr.write(f"not alive: {type(problem).__name__}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
