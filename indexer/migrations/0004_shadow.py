"""Re-index: what became of each document in each index, and triggers that many writers at once do not trip over."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

FORWARD = """
INSERT INTO indexer_indexeddocument (index_id, document_id, chunks, reason)
SELECT i.id, d.id, d.chunk_count, '' FROM indexer_document d
JOIN indexer_index i ON i.corpus_id = d.corpus_id AND i.state = 'active' WHERE d.state = 'ready';

-- A generic plan would lock the partitions of every index, and wait for those of a corpus that is being deleted.
CREATE OR REPLACE FUNCTION indexer_document_deleted() RETURNS trigger AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT id FROM indexer_index WHERE corpus_id = OLD.corpus_id ORDER BY id LOOP
        DELETE FROM indexer_vector WHERE index_id = one.id AND document_id = OLD.id;
        DELETE FROM indexer_chunk WHERE index_id = one.id AND document_id = OLD.id;
    END LOOP;
    DELETE FROM indexer_indexeddocument WHERE document_id = OLD.id;
    RETURN NULL;
END
$$ LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan;

-- Attaching a table locks out nobody who reads or writes its parent. CREATE TABLE ... PARTITION OF waits for them all,
-- one parent after the other, and writers take the parents in the other order: a deadlock.
CREATE OR REPLACE FUNCTION indexer_index_created() RETURNS trigger AS $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['chunk', 'vector'] LOOP
        EXECUTE format('CREATE TABLE indexer_%1$s_%2$s (LIKE indexer_%1$s INCLUDING ALL EXCLUDING IDENTITY)',
                       kind, NEW.id);
        EXECUTE format('ALTER TABLE indexer_%1$s ATTACH PARTITION indexer_%1$s_%2$s FOR VALUES IN (%2$s)',
                       kind, NEW.id);
    END LOOP;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;

CREATE OR REPLACE FUNCTION indexer_index_deleted() RETURNS trigger AS $$
BEGIN
    EXECUTE format('TRUNCATE indexer_vector_%s, indexer_chunk_%s', OLD.id, OLD.id);
    DELETE FROM indexer_change WHERE index_id = OLD.id;
    DELETE FROM indexer_indexeddocument WHERE index_id = OLD.id;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
"""

BACKWARD = """
CREATE OR REPLACE FUNCTION indexer_document_deleted() RETURNS trigger AS $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT id FROM indexer_index WHERE corpus_id = OLD.corpus_id ORDER BY id LOOP
        DELETE FROM indexer_vector WHERE index_id = one.id AND document_id = OLD.id;
        DELETE FROM indexer_chunk WHERE index_id = one.id AND document_id = OLD.id;
    END LOOP;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;

CREATE OR REPLACE FUNCTION indexer_index_deleted() RETURNS trigger AS $$
BEGIN
    EXECUTE format('TRUNCATE indexer_vector_%s, indexer_chunk_%s', OLD.id, OLD.id);
    DELETE FROM indexer_change WHERE index_id = OLD.id;
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
"""


class Migration(migrations.Migration):
    dependencies = [("indexer", "0003_filters")]
    operations = [
        migrations.AddField(
            model_name="index",
            name="since",
            field=models.DateTimeField(
                default=django.utils.timezone.now, help_text="When it got the state it has."
            ),
        ),
        migrations.AddConstraint(
            model_name="index",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("building", "ready"))),
                fields=("corpus",),
                name="one_shadow_index_per_corpus",
            ),
        ),
        migrations.CreateModel(
            name="IndexedDocument",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("chunks", models.PositiveIntegerField(help_text="0: it cannot be indexed with this recipe.")),
                ("reason", models.TextField(blank=True, help_text="Why not, for a person.")),
                (
                    "document",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="indexed",
                        to="indexer.document",
                    ),
                ),
                (
                    "index",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="indexed",
                        to="indexer.index",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="indexeddocument",
            constraint=models.UniqueConstraint(fields=("index", "document"), name="indexed_once"),
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
