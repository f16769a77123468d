-- Trains that keep what their agents are asked and what they answer. A train without a row keeps nothing. What is not younger than purged_at was deleted, though it may still lie there.
CREATE TABLE request_logging (
	train_id       TEXT PRIMARY KEY REFERENCES trains (id) ON DELETE CASCADE,
	enabled        BIGINT NOT NULL,
	max_bytes      BIGINT NOT NULL,
	retention_days BIGINT NOT NULL,
	total_bytes    BIGINT NOT NULL,
	purged_at      BIGINT NOT NULL DEFAULT 0,
	revision       BIGINT NOT NULL,
	created_at     BIGINT NOT NULL,
	updated_at     BIGINT NOT NULL
);
-- What was asked and answered, sealed and bound to its request and train; size is how much room it takes. It outlives its train until it is swept: all of it at once would hold
-- SQLite's one writer for long.
CREATE TABLE request_contents (
	id         TEXT PRIMARY KEY,
	train_id   TEXT NOT NULL,
	sealed     {{.Blob}} NOT NULL,
	size       BIGINT NOT NULL,
	created_at BIGINT NOT NULL
);
CREATE INDEX request_contents_oldest ON request_contents (train_id, created_at, id, size);
{{.Fence "request_contents" "sealed" 2}}
