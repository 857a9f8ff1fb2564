"""The demo IAM's pages: plain HTML that works on a phone, with a keyboard and with a screen reader, without scripts."""

import html
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

from af_hub.testing.iam_tokens import DemoUser

STYLE = """
:root { color-scheme: light dark; font: 1.0625rem/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 40rem; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
ul { list-style: none; margin: 1.5rem 0 0; padding: 0; }
button { width: 100%; margin: 0 0 .75rem; padding: .9rem 1.1rem; text-align: left; font: inherit; cursor: pointer;
  border: 1px solid #8a8f98; border-radius: .6rem; background: transparent; color: inherit; }
button:hover { border-color: #1a5fb4; }
button:focus-visible { outline: 3px solid #1a5fb4; outline-offset: 2px; }
button strong { display: block; font-size: 1.15rem; }
button span { display: block; }
code { overflow-wrap: anywhere; }
"""


def page(title: str, body: str, status: int = 200, target: str = "") -> web.Response:
    """A whole HTML page; ``target`` is where its form's answer will be redirected to."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · demo IAM</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>"
    )
    # Browsers hold form-action against redirects of the form's answer too, so the client's own address must be in it.
    parts = urlsplit(target)
    origin = f" {parts.scheme}://{parts.netloc}" if target else ""
    policy = f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'{origin}; frame-ancestors 'none'; base-uri 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def login_form(ticket: str, users: Iterable[DemoUser]) -> str:
    """One button a user: name, groups, and what the user is there for."""
    rows = "".join(
        f'<li><button name="user" value="{html.escape(user.username)}"><strong>{html.escape(user.username)}</strong>'
        f"<span>{html.escape(user.about)}</span>"
        f"<span>Groups: <code>{html.escape(', '.join(user.groups) or 'none')}</code></span></button></li>"
        for user in users
    )
    return (
        "<p>This is the demo’s IAM. It asks for no password: choose whom to sign in as.</p>"
        f'<form method="post" action="/login"><input type="hidden" name="ticket" value="{ticket}"><ul>{rows}</ul>'
        '<button name="refuse" value="yes"><strong>None of them</strong><span>Go back to the hub without signing in.</span></button></form>'
    )
