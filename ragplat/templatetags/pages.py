"""Small words for templates."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince

register = template.Library()


@register.filter
def thousands(number: int | None) -> str:
    """12345 as "12,345"; nothing as "0"."""
    return f"{number or 0:,}"


@register.filter
def ago(moment: datetime | None) -> str:
    """A <time> element that reads "3 hours ago" and tells the exact time on hover."""
    if moment is None:
        return ""
    seconds = (timezone.now() - moment).total_seconds()
    words = "just now" if seconds < 60 else f"{timesince(moment, depth=1)} ago"
    exact = timezone.localtime(moment).strftime("%Y-%m-%d %H:%M %Z")
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, words)


@register.simple_tag(takes_context=True)
def theme(context: dict) -> str:
    """The attribute that fixes light or dark, when this person chose one."""
    chosen = context["request"].COOKIES.get("theme") if "request" in context else None
    return format_html(' data-theme="{}"', chosen) if chosen in ("light", "dark") else ""
