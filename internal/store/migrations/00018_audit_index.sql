-- The search index of the log, derived from the batches by the sequencer. audit_refs was written with each commit; instances of an older
-- version that run on beside this one still do that, so it stays, and nothing reads it any more.
CREATE TABLE audit_segments (
	segment BIGINT PRIMARY KEY,
	lowest  TEXT NOT NULL,
	highest TEXT NOT NULL
);
CREATE INDEX audit_segments_highest ON audit_segments (highest);

CREATE TABLE audit_postings (
	shard   BIGINT NOT NULL,
	segment BIGINT NOT NULL,
	entries {{.Blob}} NOT NULL,
	PRIMARY KEY (shard, segment)
) {{.Lean}};

{{.Immutable "audit_segments"}}
{{.Immutable "audit_postings"}}
{{if .Postgres}}
-- PostgreSQL compresses what is over two kilobytes, by default in a way that makes storing a full batch cost four times the CPU that it
-- costs with lz4. A server that was built without lz4 goes on as before. Hashes do not compress.
DO $$ BEGIN
	ALTER TABLE audit_batches ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
ALTER TABLE audit_leaves ALTER COLUMN hashes SET STORAGE EXTERNAL;
ALTER TABLE audit_postings ALTER COLUMN entries SET STORAGE EXTERNAL;
{{end}}
