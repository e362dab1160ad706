"""Addresses of corpora and documents."""

from django.urls import path

from indexer.views import corpora, documents, files, uploads

urlpatterns = [
    path("corpora/", corpora.corpora, name="corpora"),
    path("corpora/new/", corpora.create_corpus, name="corpus-create"),
    path("corpora/<slug:slug>/", corpora.corpus, name="corpus"),
    path("corpora/<slug:slug>/live/", corpora.live, name="corpus-live"),
    path("corpora/<slug:slug>/upload/", uploads.upload, name="corpus-upload"),
    path("corpora/<slug:slug>/states/", uploads.states, name="corpus-states"),
    path("documents/<int:pk>/", documents.document, name="document"),
    path("documents/<int:pk>/passage/", documents.passage, name="document-passage"),
    path("documents/<int:pk>/retry/", documents.retry_document, name="document-retry"),
    path("documents/<int:pk>/delete/", documents.delete_document, name="document-delete"),
    path("documents/<int:pk>/file/", files.original, name="document-file"),
    path("documents/<int:pk>/pages/<int:page>.png", files.page_image, name="document-page"),
    path("documents/<int:pk>/pages/<int:page>/boxes/", files.page_boxes, name="document-boxes"),
]
