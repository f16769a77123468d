-- How far a backup is that is being taken, by a process beside the servers. seen_at is when it last said so; one that was cut off says nothing more.
CREATE TABLE backup_runs (
	id      TEXT PRIMARY KEY,
	at      BIGINT NOT NULL,
	done    BIGINT NOT NULL,
	total   BIGINT NOT NULL,
	seen_at BIGINT NOT NULL
);
