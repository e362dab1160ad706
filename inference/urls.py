"""Addresses of asking: conversations and their turns."""

from django.urls import path

from inference.views import asking, conversations, trace, turns

urlpatterns = [
    path("", asking.start, name="ask"),
    path("ask/", asking.ask, name="ask-question"),
    path("conversations/", conversations.conversations, name="conversations"),
    path("conversations/<int:pk>/", conversations.conversation, name="conversation"),
    path("conversations/<int:pk>/rename/", conversations.rename_conversation, name="conversation-rename"),
    path("conversations/<int:pk>/delete/", conversations.delete_conversation, name="conversation-delete"),
    path("conversations/<int:pk>/export.md", conversations.export_conversation, name="conversation-export"),
    path("turns/<int:pk>/", turns.turn, name="turn"),
    path("turns/<int:pk>/again/", asking.ask_again, name="turn-again"),
    path("turns/<int:pk>/events", turns.turn_events, name="turn-events"),
    path("turns/<int:pk>/stop/", turns.stop_turn, name="turn-stop"),
    path("turns/<int:pk>/rating/", turns.rate_turn, name="turn-rating"),
    path("turns/<int:pk>/sources/", turns.turn_sources, name="turn-sources"),
    path("turns/<int:pk>/export.md", turns.export_turn, name="turn-export"),
    path("turns/<int:pk>/trace/", trace.turn_trace, name="turn-trace"),
]
