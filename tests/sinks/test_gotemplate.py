"""Go templates give what Alertmanager's own amtool gives, and nothing else goes wrong but a TemplateError."""

import string
import subprocess
import time
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.gotemplate.data import Data
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.functions import FUNCTIONS
from sinks.gotemplate.templates import Templates
from sinks.texts import NoticeTexts
from tests.sinks.alertmanager import FIRING, RESOLVED, amtool_data, notice_data, notice_of

DEFAULTS = "/usr/share/prometheus/alertmanager/*.tmpl"
TEXT = (Path(__file__).parent / "go_templates.txt").read_text(encoding="utf-8")
CASES = [case.strip("\n") for case in TEXT.split("\n---\n")[1:]]
NOT_IN_0_25 = {
    "discord.default.content", "msteams.default.summary", "msteams.default.title", "msteams.default.text",
    "msteamsv2.default.title", "msteamsv2.default.text", "slack.default.color",
    *(f"mattermost.default.{name}" for name in ("color", "fallback", "text", "title", "titlelink", "username")),
    *(f"rocketchat.default.{name}" for name in ("alias", "emoji", "iconurl", "text", "title", "titlelink")),
}  # fmt: skip
NAMES = sorted(name for name in Templates({}).known if "default" in name and name not in NOT_IN_0_25)
BOTH = notice_data(FIRING, RESOLVED)
ONE = notice_data(FIRING)
OVER = notice_data(RESOLVED)


def said_by(program: str, folder: Path, text: str, data: Data, *, html: bool) -> str | None:
    """What amtool gives, None when it refuses."""
    file = folder / "data.json"
    file.write_text(amtool_data(data), encoding="utf-8")
    kind = "html" if html else "text"
    done = subprocess.run(
        [
            program, "template", "render", f"--template.glob={DEFAULTS}", f"--template.data={file}",
            f"--template.text={text}", f"--template.type={kind}",
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else None


def ours(text: str, data: Data, *, html: bool = False) -> str | None:
    try:
        return Templates({}).render(text, data, html=html)
    except TemplateError:
        return None


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize("case", CASES)
def test_a_template_gives_what_amtool_gives(amtool: str, tmp_path: Path, case: str) -> None:
    html = case.startswith("HTML:")
    text = case.removeprefix("HTML:")
    assert ours(text, BOTH, html=html) == said_by(amtool, tmp_path, text, BOTH, html=html)


@pytest.mark.parametrize("data", [BOTH, ONE, OVER], ids=["both", "firing", "resolved"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "email.default.html"])
def test_alertmanagers_own_templates_have_its_output(amtool: str, tmp_path: Path, name: str, data: Data) -> None:
    text = f'{{{{ template "{name}" {".Alerts.Firing" if name.endswith("instances") else "."} }}}}'
    assert ours(text, data) == said_by(amtool, tmp_path, text, data, html=False)


class _Words(HTMLParser):
    """What a reader of the mail sees, and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = self._hidden or tag in {"style", "title"}
        self.said += [f"<{value}>" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = self._hidden and tag not in {"style", "title"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.said += data.split()


def words(html: str | None) -> list[str]:
    parser = _Words()
    parser.feed(html or "")
    return parser.said


@pytest.mark.parametrize("data", [BOTH, ONE, OVER], ids=["both", "firing", "resolved"])
def test_the_mail_says_and_links_what_alertmanagers_does(amtool: str, tmp_path: Path, data: Data) -> None:
    text = '{{ template "email.default.html" . }}'
    made = words(ours(text, data, html=True))
    assert len(made) > 20
    assert made == words(said_by(amtool, tmp_path, text, data, html=True))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\n{{ frob . }}", 'line 3: function "frob" not defined'),
        ("{{ call .X }}", "the function call is not supported"),
        ("{{ if .Status }}", "{{if}} is not closed"),
        ("{{ template `x` . }}", 'template "x" not defined'),
        ("{{ .Nope }}", "can't evaluate field Nope in type template.Data"),
        ("{{ range 3 }}{{ end }}", "range over a number is not supported"),
        ('{{ printf "%#v" . }}', "%#v is not supported"),
        ('{{ printf "%*d" 3 4 }}', "is not supported"),
        ('{{ printf "%99999999d" 3 }}', "is wider than"),
        ('{{ reReplaceAll "(" "" "" }}', "is refused"),
        ("{{ 1i }}", "bad number syntax"),
        ('{{ define "r" }}{{ template "r" }}{{ end }}{{ template "r" }}', "more than 40 deep"),
        ('{{ $x := "aaaaaaaa" }}' + '{{ $x = printf "%s%s" $x $x }}' * 20, "text of more than"),
        ("{{ range $.Alerts }}" * 20 + "x" + "{{ end }}" * 20, "more than"),
        ("{{ if true }}" * 100, "nested too deeply"),
        ("{{ " + "(" * 100 + "1" + ")" * 100 + " }}", "nested too deeply"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Templates({}).render(text, BOTH)
    assert reason.replace('"', "'") in str(refused.value).replace('"', "'")
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<script>var x = {{ .Status }}</script>", "inside <script>"),
        ("<style>{{ .Status }}</style>", "inside <style>"),
        ('<p onclick="f({{ .Status }})">', "attribute onclick"),
        ("<p {{ .Status }}>", "name of an attribute"),
        ("{{ if .Never }}{{ else }}<script>{{ .Status }}</script>{{ end }}", "inside <script>"),
        ('{{ template "js" . }}', "inside <script>"),
    ],
)
def test_values_in_scripts_and_styles_are_refused_when_checked(text: str, reason: str) -> None:
    templates = Templates({"f.tmpl": '{{ define "js" }}<script>{{ .Status }}</script>{{ end }}'})
    templates.check(text)
    with pytest.raises(TemplateError, match=reason):
        templates.check(text, html=True)


def test_a_file_replaces_a_default_of_the_same_name_but_not_with_nothing() -> None:
    mine = Templates(
        {
            "/x/a.tmpl": '{{ define "slack.default.title" }}mine{{ end }}',
            "/x/b.tmpl": '{{ define "slack.default.title" }} {{ end }}whole file',
        }
    )
    assert mine.render('{{ template "slack.default.title" . }}', BOTH) == "mine"
    assert mine.render('{{ template "b.tmpl" . }}', BOTH) == "whole file"
    assert mine.render('{{ template "slack.default.fallback" . }}', BOTH).startswith("mine | ")


def test_a_file_that_is_no_template_is_named_with_its_line() -> None:
    with pytest.raises(TemplateError, match=r"template '/x/a\.tmpl', line 2: "):
        Templates({"/x/a.tmpl": "one\n{{ nope }}"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{ date "2006-01-02 15:04" (tz "Europe/Berlin" (index .Alerts 0).StartsAt) }}', "2026-02-25 10:30"),
        ('{{ trimSpace "  a " }}|{{ urlUnescape "a%20b+c" }}', "a|a b c"),
        ("{{ humanizeDuration 3661 }} {{ humanizeDuration 0.25 }} {{ humanizeDuration 90061.0 }}",
         "1h 1m 1s 250ms 1d 1h 1m 1s"),
        ("{{ with .Alerts.Nope }}{{ end }}", None),
        ('{{ safeUrl "https://x" }}', "https://x"),
        ("{{ gt (since (index .Alerts 1).EndsAt).Hours 1.0 }}", "true"),
    ],
)  # fmt: skip
def test_functions_of_later_alertmanagers_are_there(text: str, expected: str | None) -> None:
    assert ours(text, BOTH) == expected


def test_a_replacement_is_bounded_before_it_is_made() -> None:
    doubled = "".join(f'{{{{ ${name} := "{name * 16}" }}}}' + f"{{{{ ${name} = print ${name} ${name} }}}}" * times
                      for name, times in (("x", 9), ("y", 12)))  # fmt: skip
    tracemalloc.start()
    try:
        for replaced in ('reReplaceAll "" $y $x', f'reReplaceAll "(?s).+" "{"$0" * 20}" $y'):
            with pytest.raises(TemplateError, match="makes a text of more than"):
                Templates({}).render(f"{doubled}{{{{ {replaced} | len }}}}", ONE)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_long_list_of_alerts_still_has_its_mail() -> None:
    notice = notice_of([FIRING] * 2000)
    shown = NoticeTexts(Templates({}), notice).html('{{ template "email.default.html" . }}')
    assert "2000 alerts for" in shown
    with pytest.raises(TemplateError, match="steps"):
        Templates({}).render("{{ range $.Alerts }}" * 20 + "{{ end }}" * 20, BOTH)


def test_a_notice_is_rendered_with_what_alerts_said_escaped_and_an_error_gives_nothing() -> None:
    notice = notice_of([FIRING])
    texts = NoticeTexts(Templates({}), notice)
    assert texts.text("<{{ .CommonLabels.zone }}>", escape=lambda text: text.replace("<", "&lt;")) == "<eu &lt;1>>"
    assert texts.html("<b>{{ .CommonLabels.zone }}</b>") == "<b>eu &lt;1&gt;</b>"
    assert texts.text("{{ .Nope }}") == ""


PIECES = (
    "{{", "}}", "{{-", "-}}", " ", ".", ".Alerts", ".Labels", "$", "$x", ":=", "=", "|", "(", ")", ",", "if", "else",
    "end", "range", "with", "define", "template", "block", "break", "continue", '"a"', "`b`", "'c'", "1", "-2.5", "nil",
    "true", "printf", "len", "index", "slice", "eq", "and", "or", "not", "html", "join", "toUpper", "reReplaceAll",
    "stringSlice", "{{/* x */}}", "<a href=", '"', "<!--", "-->", "<script>", ">", "text", "\n", "%d", "\\",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(string.printable, max_size=3), max_size=30), st.booleans())
def test_no_text_makes_anything_worse_than_a_template_error(pieces: list[str], html: bool) -> None:
    ours(" ".join(pieces), BOTH, html=html)
    ours(f"{{{{ {' '.join(pieces)} }}}}", BOTH, html=html)


@st.composite
def pipelines(draw: st.DrawFn) -> str:
    """Actions that are mostly well formed."""
    value = st.sampled_from(
        [".", ".Status", ".Alerts", ".CommonLabels", "1", "2.5", '"x"', "true", ".Alerts.Firing", "(index .Alerts 0)",
         "(len .Alerts)", ".CommonLabels.SortedPairs", "(stringSlice `a` `b`)", "(index .Alerts 1).EndsAt", "nil"]
    )  # fmt: skip
    name = st.sampled_from(sorted(FUNCTIONS))
    call = st.builds(lambda f, args: " ".join([f, *args]), name, st.lists(value, max_size=3))
    chain = st.builds(" | ".join, st.lists(call | value, min_size=1, max_size=3))
    inner = draw(chain)
    return draw(
        st.sampled_from(
            [f"{{{{ {inner} }}}}", f"{{{{ if {inner} }}}}y{{{{ else }}}}n{{{{ end }}}}",
             f"{{{{ range $k, $v := {inner} }}}}{{{{ $k }}}}{{{{ $v }}}}{{{{ end }}}}",
             f"{{{{ with {inner} }}}}{{{{ . }}}}{{{{ end }}}}", f'<a href="{{{{ {inner} }}}}">{{{{ {inner} }}}}</a>']
        )
    )  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(pipelines(), min_size=1, max_size=3), st.booleans())
def test_well_formed_templates_render_or_are_refused(texts: list[str], html: bool) -> None:
    ours("".join(texts), BOTH, html=html)


def test_no_template_takes_long() -> None:
    alerts = notice_data(*[FIRING, RESOLVED] * 50)
    started = time.process_time()
    with pytest.raises(TemplateError, match="more than"):
        Templates({}).render("{{ range $.Alerts }}" * 5 + "{{ printf `%9999s` .Status }}" + "{{ end }}" * 5, alerts)
    tags = "<" * 250_000
    stripped = Templates({}).render(f'<a title="{{{{ safeHtml `<b>x{tags}` }}}}">', alerts, html=True)
    assert stripped == f'<a title="x{"&lt;" * 250_000}">'
    assert time.process_time() - started < 60, "unstopped, it takes hours"
