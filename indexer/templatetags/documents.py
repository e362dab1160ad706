"""Words about documents for templates."""

from django import template

from indexer import reading

register = template.Library()

register.filter("page_word", reading.page_word)
