"""Who may do what with which corpus. Every view and command on behalf of a person goes through here.

What a person may not read does not exist for them: "not there" and "not yours" are the same answer.
"""

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q, QuerySet

from indexer.models import Corpus, Document, Membership
from ragplat.errors import NotFound, Refused

ROLES = list(Membership.Role.values)  # from the least to the most powerful


def visible_corpora(user: AbstractBaseUser, role: str = Membership.Role.READER) -> QuerySet[Corpus]:
    """The corpora in which a person has at least this role."""
    if not user.is_authenticated or not user.is_active:
        return Corpus.objects.none()
    if user.is_superuser:
        return Corpus.objects.all()
    roles = ROLES[ROLES.index(role) :]
    theirs = Membership.objects.filter(Q(user=user) | Q(group__in=user.groups.all()), role__in=roles)
    return Corpus.objects.filter(pk__in=theirs.values("corpus"))


def corpus_for(user: AbstractBaseUser, slug: str, role: str = Membership.Role.READER) -> Corpus:
    """The corpus with this slug. Raises NotFound, or Refused when the person may read it but not more."""
    corpus = visible_corpora(user).filter(slug=slug).first()
    if corpus is None:
        raise NotFound(f'There is no corpus "{slug}".')
    require(user, corpus, role)
    return corpus


def document_for(user: AbstractBaseUser, document_id: int, role: str = Membership.Role.READER) -> Document:
    """The document with this id. Raises NotFound, or Refused when the person may read it but not more."""
    found = (
        Document.objects.select_related("corpus")
        .defer("text")
        .filter(pk=document_id, corpus__in=visible_corpora(user))
        .first()
    )
    if found is None:
        raise NotFound("There is no such document. It may have been deleted.")
    require(user, found.corpus, role)
    return found


def require(user: AbstractBaseUser, corpus: Corpus, role: str) -> None:
    """Raises Refused unless the person has at least this role in the corpus."""
    if not visible_corpora(user, role).filter(pk=corpus.pk).exists():
        raise Refused(f'You need the role "{role}" in "{corpus.title}" for this. Ask its manager.')
