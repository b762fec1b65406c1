"""The templates that Alertmanager has by itself, under its names and with its output, in our own words.

The mail's markup is ours; what it says is the same.
"""

from typing import Final

_SHARED: Final = r"""
{{- define "__alertmanager" }}Alertmanager{{ end }}
{{- define "__alertmanagerURL" -}}
{{ printf "%s/#/alerts?receiver=%s" .ExternalURL (urlquery .Receiver) }}
{{- end }}

{{- define "__subject" -}}
{{ $firing := eq .Status "firing" -}}
{{ $more := .CommonLabels.Remove .GroupLabels.Names -}}
[{{ toUpper .Status }}{{ if $firing }}{{ printf ":%d" (len .Alerts.Firing) }}{{ end }}]
{{- printf " %s " (join " " .GroupLabels.SortedPairs.Values) }}
{{- if lt (len .GroupLabels) (len .CommonLabels) -}}
  ({{ if $more }}{{ join " " $more.Values }}{{ end }})
{{- end }}
{{- end }}
{{- define "__description" }}{{ end }}
{{- define "__color" }}{{ if .Alerts.Firing }}danger{{ else }}good{{ end }}{{ end }}

{{- define "__pair_list" }}{{ range .SortedPairs }}{{ printf " - %s = %s\n" .Name .Value }}{{ end }}{{ end }}
{{- define "__text_alert_list" }}
{{- range . }}Labels:
{{ template "__pair_list" .Labels }}Annotations:
{{ template "__pair_list" .Annotations }}Source: {{ .GeneratorURL }}
{{ end }}
{{- end }}

{{- define "__pair_list_markdown" }}{{ range .SortedPairs }}{{ printf "  - %s = %s\n" .Name .Value }}{{ end }}{{ end }}
{{- define "__text_alert_list_markdown" }}
{{- range . }}
Labels:
{{ template "__pair_list_markdown" .Labels }}
Annotations:
{{ template "__pair_list_markdown" .Annotations }}
Source: {{ .GeneratorURL }}
{{ end }}
{{ end }}

{{- define "__told_close" }}
{{- with .Alerts.Firing }}Alerts Firing:
{{ template "__text_alert_list" . }}{{ end }}
{{ with .Alerts.Resolved }}Alerts Resolved:
{{ template "__text_alert_list" . }}{{ end }}
{{- end }}

{{- define "__told_wide" }}
{{- with .Alerts.Firing }}
Alerts Firing:
{{ template "__text_alert_list" . }}
{{ end }}
{{ with .Alerts.Resolved }}
Alerts Resolved:
{{ template "__text_alert_list" . }}
{{ end }}
{{ end }}

{{- define "__told_markdown" }}
{{- with .Alerts.Firing }}
# Alerts Firing:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ with .Alerts.Resolved }}
# Alerts Resolved:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ end }}

{{- define "__said" }}{{ join " " .CommonAnnotations.SortedPairs.Values }}
{{ end }}
"""

_MAIL: Final = r"""
{{- define "__mail_pairs" }}
{{- range .SortedPairs }}<br>{{ .Name }} = {{ .Value }}{{ end }}
{{- end }}
{{- define "__mail_alert" -}}
<tr><td style="padding: 0 0 16px 0">
<strong>Labels</strong>{{ template "__mail_pairs" .Labels }}
{{- if .Annotations }}<br><strong>Annotations</strong>{{ template "__mail_pairs" .Annotations }}{{ end }}
<br><a href="{{ .GeneratorURL }}">Source</a>
</td></tr>
{{ end }}
{{- define "email.default.subject" }}{{ template "__subject" . }}{{ end }}
{{- define "email.default.html" -}}
<!DOCTYPE html>
<html>
<head><meta charset="utf-8"><title>{{ template "__subject" . }}</title></head>
<body style="margin: 0; padding: 24px; font-family: sans-serif; font-size: 14px; color: #222222">
<table role="presentation" style="max-width: 640px; margin: 0 auto">
<tr><td style="padding: 12px; color: #ffffff; background: {{ if .Alerts.Firing }}#b3261e{{ else }}#2e7d32{{ end }}">
{{ len .Alerts }} alert{{ if gt (len .Alerts) 1 }}s{{ end }} for
{{- range .GroupLabels.SortedPairs }} {{ .Name }}={{ .Value }}{{ end }}
</td></tr>
<tr><td style="padding: 16px 0">
<a href="{{ template "__alertmanagerURL" . }}">View in {{ template "__alertmanager" . }}</a>
</td></tr>
{{ if .Alerts.Firing }}<tr><td><h3>[{{ len .Alerts.Firing }}] Firing</h3></td></tr>
{{ range .Alerts.Firing }}{{ template "__mail_alert" . }}{{ end }}{{ end -}}
{{ if .Alerts.Resolved }}<tr><td><h3>[{{ len .Alerts.Resolved }}] Resolved</h3></td></tr>
{{ range .Alerts.Resolved }}{{ template "__mail_alert" . }}{{ end }}{{ end -}}
<tr><td><a href="{{ .ExternalURL }}">Sent by {{ template "__alertmanager" . }}</a></td></tr>
</table>
</body>
</html>
{{ end }}
"""

_EMPTY: Final = (
    "slack.default.callbackid", "slack.default.pretext", "slack.default.iconemoji", "slack.default.iconurl",
    "slack.default.text", "slack.default.footer", "wechat.default.to_user", "wechat.default.to_party",
    "wechat.default.to_tag", "wechat.default.agent_id", "discord.default.content",
    "rocketchat.default.emoji", "rocketchat.default.iconurl", "rocketchat.default.text",
)  # fmt: skip
_SUBJECTS: Final = (
    "slack.default.title", "pagerduty.default.description", "opsgenie.default.message", "pushover.default.title",
    "victorops.default.entity_display_name", "sns.default.subject", "discord.default.title", "msteams.default.summary",
    "msteams.default.title", "msteamsv2.default.title", "mattermost.default.title", "rocketchat.default.title",
)  # fmt: skip
_SAME_AS: Final = {
    "slack.default.username": "__alertmanager",
    "slack.default.titlelink": "__alertmanagerURL",
    "pagerduty.default.client": "__alertmanager",
    "pagerduty.default.clientURL": "__alertmanagerURL",
    "pagerduty.default.instances": "__text_alert_list",
    "opsgenie.default.source": "__alertmanagerURL",
    "victorops.default.monitoring_tool": "__alertmanager",
    "pushover.default.url": "__alertmanagerURL",
    "mattermost.default.username": "__alertmanager",
    "mattermost.default.titlelink": "__alertmanagerURL",
    "rocketchat.default.alias": "__alertmanager",
    "rocketchat.default.titlelink": "__alertmanagerURL",
    "slack.default.color": "__color",
    "mattermost.default.color": "__color",
    **dict.fromkeys(_SUBJECTS, "__subject"),
}
_SAID_THEN: Final = {
    "opsgenie.default.description": "__told_close",
    "victorops.default.state_message": "__told_close",
    "pushover.default.message": "__told_wide",
    "sns.default.message": "__told_wide",
    "webex.default.message": "__told_wide",
}
_LISTS: Final = {
    "telegram.default.message": "__told_wide",
    "discord.default.message": "__told_wide",
    "msteams.default.text": "__told_markdown",
    "msteamsv2.default.text": "__told_markdown",
    "mattermost.default.text": "__told_markdown",
}


def _defined(name: str, body: str) -> str:
    return f'{{{{- define "{name}" }}}}{body}{{{{ end }}}}\n'


def _use(name: str) -> str:
    return f'{{{{ template "{name}" . }}}}'


DEFAULTS: Final = "".join(
    (
        _SHARED,
        _MAIL,
        *(_defined(name, "") for name in _EMPTY),
        *(_defined(name, _use(other)) for name, other in _SAME_AS.items()),
        *(_defined(name, f"{_use('__said')}{_use(other)}") for name, other in _SAID_THEN.items()),
        *(_defined(name, f"\n{_use(other)}") for name, other in _LISTS.items()),
        *(
            _defined(
                f"{name}.default.fallback", f"{_use(f'{name}.default.title')} | {_use(f'{name}.default.titlelink')}"
            )
            for name in ("slack", "mattermost")
        ),
        _defined(
            "wechat.default.message",
            f"{_use('__subject')}\n{_use('__said')}{_use('__told_close')}\nAlertmanagerUrl:\n{_use('__alertmanagerURL')}",
        ),
    )
)
