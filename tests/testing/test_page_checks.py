"""The checks of pages find what they are for, and nothing on a page that is right."""

import pytest

pytestmark = pytest.mark.real

HEAD = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>T</title>'
RIGHT = "<main><h1>Right</h1><p>Some text with <a href='#x'>a link</a> in it.</p><button style='padding: 12px'>Press</button></main>"


def opened(person, tmp_path, body, head=HEAD):
    page = tmp_path / "page.html"
    page.write_text(f"{head}</head><body>{body}</body></html>")
    person.window(360, 740)
    person.go(page.as_uri())
    return person


def test_a_page_that_is_right(person, tmp_path):
    opened(person, tmp_path, RIGHT)
    assert person.faults() == [] and person.keyboard_faults() == [] and person.complaints() == []


def test_each_fault_is_found(person, tmp_path):
    faults = {
        "<h4>Deep</h4>": "comes after a heading of level 1",
        "<h1>Another</h1>": "not exactly one h1",
        "<main>Another</main>": "2 main landmarks",
        "<p id='a'></p><p id='a'></p>": "the id a stands twice",
        "<img src='x.png'>": "has no alt",
        "<table><tr><td>1</td></tr></table>": "has no headings",
        "<input style='height: 50px'>": "has no name",
        "<button style='padding: 20px'></button>": "has no name",
        "<a role='button' style='display: block; height: 50px'>Press</a>": "not reached with the keyboard",
        "<button>Small</button>": "px large, wanted 40",
        "<div style='width: 500px'>wide</div>": "508 px wide in a window of 360",
        "<p style='white-space: nowrap; position: fixed; left: 300px'>words that leave</p>": "leaves the window",
        "<p style='white-space: nowrap; overflow: hidden; width: 60px'>words that are cut</p>": "is cut off",
        "<p style='margin: 0'>One</p><p style='margin: -1.2em 0 0'>Two</p>": "lie on each other",
        "<p style='color: #999; background: #fff'>faint</p>": "contrast of 2.85, wanted 4.5",
        "<div style='background: #fff'><p style='opacity: .4'>faint</p></div>": "contrast of",
    }
    for body, wanted in faults.items():
        opened(person, tmp_path, RIGHT + body)
        assert any(wanted in fault for fault in person.faults()), (body, person.faults())
    opened(person, tmp_path, RIGHT, head="<html><head>")
    assert person.faults()[:3] == [
        "the page does not say its language",
        "the page has no title",
        "the page has no viewport, so phones shrink it",
    ]


def test_what_the_keyboard_does_not_show_is_found(person, tmp_path):
    opened(person, tmp_path, f"<style>* {{ outline: none }}</style>{RIGHT}")
    assert person.keyboard_faults() == [f"nobody sees that {name!r} has the focus" for name in ("a link", "Press")]


def test_what_the_console_says_is_found(person, tmp_path):
    opened(person, tmp_path, RIGHT + "<script>console.error('a fault'); nothing()</script>")
    assert len(person.complaints({})) == 2
    opened(person, tmp_path, RIGHT + "<script>console.error('a fault')</script>")
    assert person.complaints({"a fault": "as this test wants it"}) == []
