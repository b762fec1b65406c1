"""Our own templates see the notice and nothing else, and end."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks import jinja_texts
from sinks.jinja_texts import JinjaError
from tests.sinks.alertmanager import FIRING, RESOLVED, notice_of

NOTICE = notice_of([FIRING, RESOLVED])


def render(text: str) -> str:
    return jinja_texts.render(text, NOTICE, "first")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{{ incident.severity|upper }}] {{ incident.title }}", "[CRITICAL] Down"),
        ("{{ status }} {{ receiver }} {{ reason }} {{ labels.service }}", "firing team-x first chat"),
        ("{% for a in alerts %}{{ loop.index }}:{{ a.labels.severity }} {% endfor %}", "1:critical 2:warning "),
        ("{% for k, v in labels|dictsort %}{{ k }}={{ v }};{% endfor %}", "alertname=CostBurn;service=chat;"),
        ("{{ alerts|map(attribute='fingerprint')|join(', ') }}", "0123456789abcdef, ff"),
        ("{{ alerts|selectattr('status', 'equalto', 'firing')|list|length }}", "1"),
        ("{% if labels.nope %}a{% else %}b{% endif %}{{ labels.nope.more }}", "b"),
        ("{{ group_labels|tojson }}", '{"alertname":"CostBurn"}'),
        ("{{ 'a-b'|replace('-', '+') }} {{ labels.items()|list|length }}", "a+b 2"),
        ("{% set x = 'a' ~ 'b' %}{{ x + 'c' }}", "abc"),
        ("{{ 3.14159|round(2) }} {{ 2.1|round(method='ceil') }} {{ 1 + 2 }}", "3.14 3.0 3"),
        ("{% for k, v in [('a', 1), ('b', {'c': 2})] %}{{ k }}{{ v }}{% endfor %}", "a1b{'c': 2}"),
        ("{{ 'yes' if status in ['firing', 'other'] else 'no' }}", "yes"),
    ],
)
def test_a_template_sees_the_notice(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ incident",
        "{{ incidnt }}",
        "{{ range(9) }}",
        "{{ lipsum() }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% for a in alerts recursive %}{{ loop(alerts) }}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 999999999 }}",
        "{{ '%999999999d' % 3 }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ alerts|attr('x') }}",
        "x" * 20_000,
    ],
)
def test_what_the_sandbox_has_not_is_refused_when_checked(text: str) -> None:
    with pytest.raises(JinjaError):
        jinja_texts.check(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}x",
        "{{ alerts|map(attribute='__class__')|list }}",
        "{{ incident['__class__'] }}x",
        "{{ labels.keys.__self__ }}x",
    ],
)
def test_nothing_behind_underscores_is_shown(text: str) -> None:
    try:
        shown = render(text)
    except JinjaError:
        return
    assert "class" not in shown
    assert "built-in" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "{{ labels.clear() }}",
        "{{ alerts.append(1) }}",
        "{{ 'a'.format(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{% for a in alerts %}" * 15 + "{% endfor %}" * 15,
        "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
        "{% set x = 'aaaaaaaa' %}" + "{% set x = x + x %}" * 40 + "{{ x }}",
        "{% set x = 'aaaaaaaa' %}" + "{% set x = x|replace('a', x) %}" * 10 + "{{ x }}",
        "{% set x = 'aaaaaaaa' %}" + "{% set x = [x, x, x, x]|join(x) %}" * 20 + "{{ x }}",
        "{% set a = [1] %}" + "{% set a = [a, a] %}" * 20 + "{{ a }}",
        "{% set a = [1] %}" + "{% set a = (a, a) %}" * 20 + "{{ a|tojson }}",
        "{% set a = [1] %}" + "{% set a = {1: a, 2: a} %}" * 20 + "{{ a ~ a }}",
        "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 25 + "{{ a == b }}",
        "{% set a = [1] %}" + "{% set a = a + a %}" * 23 + "x",
        "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 12 + "{{ [" + "x, " * 3000 + "] }}",
        "{{ 1|round(1000000, 'ceil') }}",
        "{{ 1|round(-1000000, 'ceil') }}",
        "{% for a in alerts %}" * 9 + "{{ alerts|tojson }}" + "{% endfor %}" * 9,
    ],
)
def test_what_calls_or_takes_too_much_is_stopped(text: str) -> None:
    started = time.process_time()
    with pytest.raises(JinjaError):
        render(text)
    assert time.process_time() - started < 20, "unstopped, it goes on for minutes"


PIECES = (
    "{{", "}}", "{%", "%}", "for", "a", "in", "alerts", "endfor", "if", "endif", "set", "x", "=", "|", "join", "labels",
    ".", "incident", "title", "tojson", "[", "]", "(", ")", "'a'", "1", "~", "+", "*", "loop", "__class__", "self",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_no_text_makes_anything_worse_than_a_jinja_error(pieces: list[str]) -> None:
    for text in (" ".join(pieces), f"{{{{ {' '.join(pieces)} }}}}", "".join(pieces)):
        try:
            render(text)
        except JinjaError:
            continue
