"""Addresses of asking: conversations and their turns."""

from django.urls import path

from inference import views

urlpatterns = [
    path("", views.start, name="ask"),
    path("ask/", views.ask, name="ask-question"),
    path("conversations/", views.conversations, name="conversations"),
    path("conversations/<int:pk>/", views.conversation, name="conversation"),
    path("conversations/<int:pk>/delete/", views.delete_conversation, name="conversation-delete"),
    path("turns/<int:pk>/", views.turn, name="turn"),
    path("turns/<int:pk>/events", views.turn_events, name="turn-events"),
    path("turns/<int:pk>/stop/", views.stop_turn, name="turn-stop"),
    path("turns/<int:pk>/sources/", views.turn_sources, name="turn-sources"),
    path("turns/<int:pk>/trace/", views.turn_trace, name="turn-trace"),
]
