"""What every list of the administration shares."""

from django.contrib import admin
from django.core.paginator import Paginator
from django.utils.functional import cached_property

admin.site.site_title = "Ragplat"
admin.site.site_header = "Ragplat"
admin.site.index_title = "Administration"

COUNTED = 10_000


class CappedPaginator(Paginator):
    """Counts and pages no further than COUNTED rows: beyond, filters and search are the way, not paging."""

    @cached_property
    def count(self) -> int:
        return self.object_list[:COUNTED].count()


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that are looked at here and changed elsewhere."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count every row
    paginator = CappedPaginator
    list_per_page = 50

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False
