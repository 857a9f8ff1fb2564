"""The demo IAM's pages: plain HTML that works on a phone, with a keyboard and with a screen reader, without scripts."""

import html
from collections.abc import Iterable, Mapping
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
label { display: block; margin: 1.5rem 0 .75rem; }
input { width: 100%; margin: .5rem 0 0; box-sizing: border-box; padding: .8rem 1rem; font: 1.4rem ui-monospace, monospace; letter-spacing: .15em;
  border: 1px solid #8a8f98; border-radius: .6rem; background: transparent; color: inherit; }
input:focus-visible { outline: 3px solid #1a5fb4; outline-offset: 2px; }
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


def login_form(hidden: Mapping[str, str], users: Iterable[DemoUser], action: str) -> str:
    """One button a user: name, groups, and what the user is there for."""
    rows = "".join(
        f'<li><button name="user" value="{html.escape(user.username)}"><strong>{html.escape(user.username)}</strong>'
        f"<span>{html.escape(user.about)}</span>"
        f"<span>Groups: <code>{html.escape(', '.join(user.groups) or 'none')}</code></span></button></li>"
        for user in users
    )
    return (
        "<p>This is the demo’s IAM. It asks for no password: choose whom to sign in as.</p>"
        f'<form method="post" action="{action}">{fields(hidden)}<ul>{rows}</ul>'
        '<button name="refuse" value="yes"><strong>None of them</strong><span>Go back without signing in.</span></button></form>'
    )


def agreement_form(hidden: Mapping[str, str], action: str) -> str:
    """The organisation's agreement, which somebody has not signed yet."""
    return (
        "<p>Who belongs to this organisation follows its rules (acceptable use policy). You have not signed them yet, or they have changed.</p>"
        f'<form method="post" action="{action}">{fields(hidden)}<button name="sign" value="yes"><strong>I agree</strong>'
        "<span>Sign, and go on.</span></button></form>"
    )


def code_form(code: str, problem: str = "") -> str:
    """Where somebody types the code that a program shows."""
    told = f'<p role="alert"><strong>{html.escape(problem)}</strong></p>' if problem else ""
    return (
        f'{told}<form method="post" action="/device/verify"><label>The code that the program shows you<input id="user_code" name="user_code" '
        f'value="{html.escape(code)}" autocomplete="off" autocapitalize="characters" spellcheck="false" required></label>'
        "<button><strong>Go on</strong></button></form>"
    )


def fields(hidden: Mapping[str, str]) -> str:
    """Hidden fields of a form."""
    return "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in hidden.items()
    )
