"""Forms of the corpus pages."""

from django import forms

LANGUAGES = [("en", "English"), ("zh", "Chinese"), ("de", "German"), ("fr", "French"), ("es", "Spanish")]


class CorpusForm(forms.Form):
    """A new corpus. What may not be kept is refused by `indexer.corpora.create`, with a reason."""

    title = forms.CharField(max_length=200, help_text="What the documents are about, such as “Product manuals”.")
    language = forms.ChoiceField(
        choices=LANGUAGES, help_text="The language most documents are written in. It decides how words are matched."
    )
    slug = forms.CharField(
        max_length=60,
        required=False,
        label="Short name",
        help_text="Used in addresses and commands. Made from the title when left empty.",
    )
