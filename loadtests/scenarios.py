"""What goes wrong around language models, as alert rules with their services: data only."""

from typing import Final

import msgspec

from streams.records import Kind, Severity


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One alert rule. Texts take {service}, {model}, {provider}, {region} and {value}."""

    alertname: str
    kind: Kind
    severity: Severity
    raised: Severity
    services: tuple[str, ...]
    summary: str
    description: str
    low: float
    high: float
    weight: int = 2


SOURCES: Final = ("prometheus", "llm-gateway", "eval-runner", "guardrails", "cost-meter")
REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1")
MODELS: Final = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet"),
    ("anthropic", "claude-haiku"),
    ("google", "gemini-pro"),
    ("mistral", "mistral-large"),
    ("self-hosted", "llama-70b"),
)
TEAMS: Final = {
    "chat-api": "assistants",
    "support-bot": "assistants",
    "copilot": "developer-tools",
    "code-review": "developer-tools",
    "rag-search": "search",
    "embedding-worker": "search",
    "doc-summarizer": "documents",
    "contract-extractor": "documents",
    "agent-runner": "agents",
    "eval-runner": "quality",
    "llm-gateway": "platform",
    "vector-store": "platform",
}
_CHAT: Final = ("chat-api", "support-bot", "copilot")
_TEXT: Final = ("doc-summarizer", "contract-extractor", "code-review")

SCENARIOS: Final = (
    Scenario(
        alertname="ProviderRateLimited",
        kind=Kind.RATE_LIMIT,
        severity=Severity.WARNING,
        raised=Severity.ERROR,
        services=("llm-gateway", "chat-api", "agent-runner"),
        summary="{provider} answers 429 to {value:.0f} % of requests of {service}",
        description="{service} in {region} is over its tokens-per-minute quota for {model}; requests queue up. "
        "Shift traffic to another deployment or lower concurrency.",
        low=5,
        high=60,
        weight=6,
    ),
    Scenario(
        alertname="CostBurnRate",
        kind=Kind.COST,
        severity=Severity.WARNING,
        raised=Severity.CRITICAL,
        services=("chat-api", "agent-runner", "doc-summarizer"),
        summary="{service} spends {value:.0f} USD/h on {model}",
        description="At this rate the month's budget of {service} is gone in two days. Look for prompts that grew or"
        " loops that call {model}.",
        low=40,
        high=900,
        weight=3,
    ),
    Scenario(
        alertname="LatencyP99High",
        kind=Kind.LATENCY,
        severity=Severity.ERROR,
        raised=Severity.CRITICAL,
        services=(*_CHAT, "rag-search"),
        summary="p99 of {service} with {model} is {value:.1f} s in {region}",
        description="Time to the last token has been over the objective of 8 s for five minutes. Compare time to the"
        " first token and queue length.",
        low=8,
        high=45,
        weight=6,
    ),
    Scenario(
        alertname="HallucinationRateHigh",
        kind=Kind.HALLUCINATION,
        severity=Severity.ERROR,
        raised=Severity.CRITICAL,
        services=("support-bot", "rag-search", "contract-extractor"),
        summary="{value:.1f} % of answers of {service} are not grounded",
        description="The groundedness judge over the last 500 answers of {model} found claims without a source. "
        "Check retrieval before the model.",
        low=4,
        high=25,
        weight=3,
    ),
    Scenario(
        alertname="PromptInjectionAttempt",
        kind=Kind.PROMPT_INJECTION,
        severity=Severity.CRITICAL,
        raised=Severity.CRITICAL,
        services=("support-bot", "agent-runner", "rag-search"),
        summary="{value:.0f} prompt injection attempts against {service} in 5 min",
        description="The input guard of {service} saw instructions hidden in retrieved documents or user text. Tools"
        " stay off for these sessions.",
        low=3,
        high=80,
        weight=3,
    ),
    Scenario(
        alertname="SensitiveDataInOutput",
        kind=Kind.DATA_LEAK,
        severity=Severity.CRITICAL,
        raised=Severity.CRITICAL,
        services=("support-bot", "doc-summarizer"),
        summary="{service} put personal data into {value:.0f} answers",
        description="The output filter redacted e-mail addresses or keys in answers of {model}. Find the tenant and "
        "the document they came from.",
        low=1,
        high=12,
        weight=1,
    ),
    Scenario(
        alertname="ProviderOutage",
        kind=Kind.PROVIDER_OUTAGE,
        severity=Severity.CRITICAL,
        raised=Severity.CRITICAL,
        services=("llm-gateway", *_CHAT),
        summary="{provider} fails {value:.0f} % of calls from {region}",
        description="5xx and time-outs of {model} over the last two minutes; the fallback model takes what it can.",
        low=30,
        high=100,
        weight=3,
    ),
    Scenario(
        alertname="EmbeddingDrift",
        kind=Kind.DRIFT,
        severity=Severity.WARNING,
        raised=Severity.ERROR,
        services=("embedding-worker", "rag-search"),
        summary="input drift of {service} is {value:.2f} (limit 0.2)",
        description="The distribution of embedded queries moved away from the reference week (population stability "
        "index). Re-check thresholds.",
        low=0.2,
        high=0.9,
    ),
    Scenario(
        alertname="IndexStale",
        kind=Kind.STALE_INDEX,
        severity=Severity.WARNING,
        raised=Severity.ERROR,
        services=("vector-store", "rag-search"),
        summary="index of {service} in {region} is {value:.0f} min behind",
        description="Documents changed since are answered from their old text. The ingest of {service} is slow or "
        "stuck.",
        low=30,
        high=600,
    ),
    Scenario(
        alertname="EvalScoreDrop",
        kind=Kind.EVAL_DROP,
        severity=Severity.ERROR,
        raised=Severity.CRITICAL,
        services=("eval-runner", *_TEXT),
        summary="{service} with {model} lost {value:.1f} points on its regression set",
        description="The nightly evaluation fell below the release gate. The model version or a prompt template "
        "changed since yesterday.",
        low=2,
        high=18,
    ),
    Scenario(
        alertname="StructuredOutputBroken",
        kind=Kind.FORMAT_BREAK,
        severity=Severity.ERROR,
        raised=Severity.ERROR,
        services=("contract-extractor", "agent-runner", "code-review"),
        summary="{value:.1f} % of answers of {model} to {service} are not valid JSON",
        description="The schema check refuses answers after two repair attempts; requests fall back to the slower "
        "path.",
        low=2,
        high=40,
    ),
    Scenario(
        alertname="RunawayAgent",
        kind=Kind.RUNAWAY_AGENT,
        severity=Severity.CRITICAL,
        raised=Severity.CRITICAL,
        services=("agent-runner",),
        summary="an agent of {service} made {value:.0f} tool calls without an end",
        description="Its step budget is spent and the plan repeats itself. The run is paused; a person decides "
        "whether it goes on.",
        low=120,
        high=900,
        weight=1,
    ),
    Scenario(
        alertname="GpuMemoryPressure",
        kind=Kind.INFRASTRUCTURE,
        severity=Severity.WARNING,
        raised=Severity.ERROR,
        services=("llm-gateway", "embedding-worker"),
        summary="KV cache of {model} is {value:.0f} % full in {region}",
        description="New sequences wait or are pre-empted. Lower the batch size or add a replica.",
        low=88,
        high=100,
    ),
    Scenario(
        alertname="ErrorRateHigh",
        kind=Kind.APPLICATION,
        severity=Severity.ERROR,
        raised=Severity.CRITICAL,
        services=("chat-api", "copilot", "doc-summarizer"),
        summary="{value:.1f} % of requests to {service} fail",
        description="Server errors of {service} in {region} are over the objective of 1 %.",
        low=1,
        high=30,
    ),
)
