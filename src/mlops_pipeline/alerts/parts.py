"""Our own channels, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.config.channels import Alertmanager, AppriseUrl, Email, PrefectEvent, Webhook
from mlops_pipeline.plugins import Channel, Module

_channels = Module("mlops_pipeline.alerts.channels")

PARTS = (
    Channel("log", _channels.log, "A line on standard error"),
    Channel("webhook", _channels.webhook, "A POST of JSON, as Slack takes it or with every field", settings=Webhook),
    Channel("email", _channels.email, "Mail over SMTP", settings=Email),
    Channel("alertmanager", _channels.alertmanager, "Prometheus's Alertmanager, API v2", settings=Alertmanager, repeats=True),
    Channel("apprise", _channels.apprise, "Any service that Apprise knows, if it is installed", settings=AppriseUrl),
    Channel("prefect", _channels.prefect_event, "An event for Prefect's automations", settings=PrefectEvent),
)
