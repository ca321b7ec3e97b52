"""Our own channels: each delivers one alert, or raises why it has not got through."""

from __future__ import annotations

import logging
import os
import smtplib
import ssl
import sys
import time
from email.message import EmailMessage

from mlops_pipeline.alerts.alert import Alert, moment
from mlops_pipeline.alerts.posting import post
from mlops_pipeline.config.channels import Alertmanager, AppriseUrl, Email, PrefectEvent, Webhook
from mlops_pipeline.errors import PipelineError, one_line, without_secrets


def log(alert: Alert) -> None:
    """A line on standard error."""
    line = f"{moment(alert.ended or alert.began)} {alert.severity} {alert.head}: {alert.text}{_by_the_way(alert)}"
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def webhook(alert: Alert, settings: Webhook) -> None:
    """A POST of JSON, as Slack takes it or with every field of the alert."""
    content = alert.as_json() if settings.format == "plain" else _for_slack(alert)
    post(settings.url, content, settings.headers, settings.timeout_s)


def _for_slack(alert: Alert) -> dict[str, object]:
    colour = "#2e7d32" if alert.kind == "resolved" else {"info": "#1565c0", "warning": "#ef6c00"}.get(alert.severity, "#c62828")
    fields = {"version": alert.version, "severity": alert.severity, "owner": alert.owner, "runbook": alert.runbook}
    shown = [{"title": name, "value": _escaped(value), "short": name != "runbook"} for name, value in fields.items() if value]
    text = _escaped(alert.text + (f"\n{alert.said}" if alert.said else ""))
    return {
        "text": _escaped(alert.head),
        "attachments": [{"color": colour, "text": text, "fallback": text, "fields": shown, "ts": int(alert.ended or alert.began)}],
    }


def _escaped(text: str) -> str:
    """Text in which Slack finds no sign of its own, such as one that calls everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def email(alert: Alert, settings: Email) -> None:
    """Mail over SMTP."""
    message = EmailMessage()
    message["Subject"] = " ".join(f"[{alert.severity}] {alert.head}".split())
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    # One that comes twice has the same, by which mail programs know it.
    message["Message-ID"] = f"<{alert.delivery}@mlops-pipeline>"
    message["References"] = f"<{alert.key}@mlops-pipeline>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_body(alert))
    context = ssl.create_default_context()
    try:
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout_s, context=context)
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
        with server:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.user is not None:
                server.login(settings.user, settings.password or "")
            refused = server.send_message(message)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        raise PipelineError(f"{settings.host}:{settings.port}: {without_secrets(one_line(error)) or type(error).__name__}") from None
    if refused:
        raise PipelineError(f"{settings.host}:{settings.port}: takes no mail for {', '.join(refused)}")


def alertmanager(alert: Alert, settings: Alertmanager) -> None:
    """A POST to Alertmanager's API v2, again as long as the alert lasts, with endsAt when it ends."""
    now = time.time()
    # It keeps an alert by its labels, so that these stay the same while it lasts.
    own = {"alertname": alert.rule, "severity": alert.severity, "pipeline": alert.pipeline, "model": alert.model, "owner": alert.owner}
    notes = {"summary": alert.head, "description": alert.text, "note": alert.said, "runbook_url": alert.runbook, "version": alert.version}
    content = {
        "labels": {name: value for name, value in {**own, **settings.labels}.items() if value},
        "annotations": {name: value for name, value in notes.items() if value},
        "startsAt": moment(min(alert.began, now)),
        "endsAt": moment(min(alert.ended or now, now) if alert.kind == "resolved" else now + settings.hold_s),
    }
    post(f"{settings.url.rstrip('/')}/api/v2/alerts", [content], settings.headers, settings.timeout_s)


def apprise(alert: Alert, settings: AppriseUrl) -> None:
    """A message by Apprise."""
    try:
        from apprise import Apprise, NotifyType
    except ImportError as error:
        raise PipelineError("Apprise is not installed: pip install apprise, or use another channel") from error
    # Its own log tells addresses whole.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service = settings.url.partition("://")[0][:20] if "://" in settings.url else "the address"
    kinds = {"info": NotifyType.INFO, "warning": NotifyType.WARNING}
    kind = NotifyType.SUCCESS if alert.kind == "resolved" else kinds.get(alert.severity, NotifyType.FAILURE)
    sender = Apprise()
    if not sender.add(settings.url):
        raise PipelineError(f"Apprise: {service}: is no address that it knows: see its list of services")
    if not sender.notify(_body(alert), title=alert.head, notify_type=kind, body_format="text"):
        raise PipelineError(f"Apprise: {service}: has not taken it")


def prefect_event(alert: Alert, settings: PrefectEvent) -> None:
    """An event for Prefect's automations: mlops.alert.firing or .resolved."""
    post_event(
        f"mlops.alert.{alert.kind}", f"mlops.model.{alert.pipeline}.{alert.model}", alert.as_json(), alert.delivery, settings, alert.ended
    )


def post_event(name: str, resource: str, payload: object, identity: str, settings: PrefectEvent, occurred: float | None = None) -> None:
    """Post an event; one that comes twice with the same ``identity`` (a UUID) is taken once. Raises :class:`PipelineError`."""
    address = settings.url or os.environ.get("PREFECT_API_URL")
    if not address:
        raise PipelineError("Prefect's address is not known: give url, or set PREFECT_API_URL")
    event = {
        "id": identity,
        "event": name,
        "occurred": moment(occurred or time.time()),
        "resource": {"prefect.resource.id": resource},
        "payload": payload,
    }
    post(f"{address.rstrip('/')}/events", [event], settings.headers, settings.timeout_s)


def _body(alert: Alert) -> str:
    return "\n".join([alert.text, alert.said, "", *(f"{name}: {value}" for name, value in _told(alert).items() if value)]) + "\n"


def _told(alert: Alert) -> dict[str, str]:
    return {
        "rule": alert.rule,
        "severity": alert.severity,
        "pipeline": alert.pipeline,
        "model": f"{alert.model} {alert.version}".strip(),
        "began": moment(alert.began),
        "ended": "" if alert.ended is None else moment(alert.ended),
        "owner": alert.owner,
        "runbook": alert.runbook,
    }


def _by_the_way(alert: Alert) -> str:
    notes = [alert.said, alert.owner and f"owner {alert.owner}", alert.runbook]
    return "".join(f"; {note}" for note in notes if note)
