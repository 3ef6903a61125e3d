"""The key, hidden; and found in what others say, however they have quoted it."""

from __future__ import annotations

import html
import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.harness import judge, length
from userpilot_async._errors.secret import SHOWN, HiddenBytes, Secret

KEY = "canary/5b1f+0c77&='\"\\"
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60).filter(
    lambda key: len(set(key.replace("\\", ""))) > 3
)
QUOTED = {
    "as it is": lambda key: key,
    "in capitals": str.upper,
    "URL": lambda key: quote(key, safe=""),
    "URL in small letters": lambda key: quote(key, safe="").lower(),
    "URL, but for some": lambda key: quote(key),
    "URL twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON twice": lambda key: json.dumps(json.dumps(key))[1:-1],
    "PHP's JSON": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "each character in JSON": lambda key: "".join(f"\\u{ord(one):04x}" for one in key),
    "HTML": html.escape,
    "HTML by number": lambda key: "".join(f"&#{ord(one)};" for one in key),
    "folded": lambda key: f"{key[:4]}\r\n {key[4:]}",
    "in pieces": lambda key: f"{key[:3]}\0{key[3:5]}\u200b{key[5:6]}\x1b{key[6:]}",
    "each character by itself": " ".join,
    "hex": lambda key: key.encode().hex(),
    "hex, byte by byte": lambda key: key.encode().hex(" "),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 on several lines": lambda key: encodebytes(f"{'.' * 50}{key}".encode()).decode(),
    "base64 of a header": lambda key: b64encode(f"Token {key}".encode()).decode(),
    "base64 of a login": lambda key: b64encode(f"{key}:".encode()).decode(),
    "base64 for URLs": lambda key: urlsafe_b64encode(f"x{key}".encode()).decode(),
}


@pytest.mark.parametrize("how", QUOTED.values(), ids=QUOTED)
@settings(max_examples=length.of(15))  # of each kind
@given(
    key=KEYS,
    before=st.sampled_from(["", "Token ", "key=", '{"key":"', "%20", "x"]),
    behind=st.sampled_from(["", '"', "&", " "]),
)
@example(key=KEY, before="bad key: ", behind=".")
def test_a_key_is_found_however_it_is_quoted(how, key, before, behind):
    cleaned = Secret(key).clean(f"{before}{how(key)}{behind}")

    assert SHOWN in cleaned
    assert how(key) not in cleaned
    judge.no_canary({"cleaned": cleaned}, [key])


@given(st.text(alphabet="abc %&\\/\u00fc\U0001f600"))
def test_a_text_without_the_key_stays_as_it_is(text):
    assert text == Secret(KEY).clean(text)


@pytest.mark.parametrize(
    ("key", "said", "cleaned"),
    [
        ("KEY", "no KEY like KEYS, KEY-1 or key", f"no {SHOWN} like KEYS, KEY-1 or key"),
        ("e", "Token e refused", f"Token {SHOWN} refused"),
    ],
)
def test_a_short_key_is_one_only_where_it_stands_by_itself(key, said, cleaned):
    """Or a key of one letter would leave nothing of a message, nor of the status of a job."""
    assert cleaned == Secret(key).clean(said)


@pytest.mark.parametrize(
    "around",
    ["\\" * 200_000, "a" * 200_000, "&" * 200_000, "%" * 200_000, "&#" + "1" * 100_000, "&#" + "0" * 100_000],
    ids=["backslashes", "base64", "&", "%", "a large number", "zeros"],
)
def test_a_long_text_is_searched_once_and_not_from_each_of_its_characters(around):
    """A large answer, from a server that wants to keep the loop busy for hours, or to make Python raise."""
    said = b64encode(KEY.encode()).decode()
    cleaned = Secret(KEY).clean(f"{around} {said}")

    assert said not in cleaned
    assert SHOWN in cleaned
    assert around == Secret(KEY).clean(around)


def test_a_character_whose_number_begins_with_zeros_is_one_of_the_key():
    key = "canary-5b1f0c77"
    assert SHOWN == Secret(key).clean("".join(f"&#{ord(one):05000};" for one in key))


def test_names_and_texts_of_an_answer_are_cleaned_however_deep_they_are():
    deep = KEY
    for _ in range(10_000):
        deep = [deep]
    cleaned = Secret(KEY).clean_json({KEY: [{"a": f"x {KEY}"}, 7, None, True], "b": {"c": KEY}, "d": deep})
    innermost = cleaned.pop("d")
    while isinstance(innermost, list):
        innermost = innermost[0]

    assert SHOWN == innermost
    assert {SHOWN: [{"a": f"x {SHOWN}"}, 7, None, True], "b": {"c": SHOWN}} == cleaned


def test_a_key_of_digits_is_found_where_an_answer_says_it_as_a_number():
    said = [20260102, {"id": 20260102, "size": 2026, "share": 0.25}, "no 20260102", True]
    cleaned = Secret("20260102").clean_json(said)

    assert [SHOWN, {"id": SHOWN, "size": 2026, "share": 0.25}, f"no {SHOWN}", True] == cleaned


def test_a_header_is_what_it_is_on_the_wire_and_is_not_shown():
    header = Secret(KEY).header(f"Token {KEY}")

    assert f"Token {KEY}".encode() == header
    assert isinstance(header, HiddenBytes)
    judge.no_canary({"shown": f"{header!r} {header!s} {[header]} {header}"}, [KEY])
    other = Secret(KEY).header("application/json")
    assert b"application/json" == other
    assert not isinstance(other, HiddenBytes)


@given(st.text(alphabet="aB%&\\/\u00fc\0"), st.sampled_from(sorted(QUOTED)), st.booleans())
def test_an_answer_that_is_not_searched_has_the_key_in_no_text(around, quoted, there):
    key = "canary-5b1f0c77"
    value = {around: [f"{around}{QUOTED[quoted](key) if there else ''}{around}"]}
    body = json.dumps(value, ensure_ascii=False).encode()

    assert Secret(key).may_be_in(body) or value == Secret(key).clean_json(json.loads(body))
    assert not Secret(key).may_be_in(b'{"id": "j1", "name": "50% \\u0026 more"}')
