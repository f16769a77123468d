-- The backups that were taken, so that their age is known.
CREATE TABLE backups (
	id     TEXT PRIMARY KEY,
	at     BIGINT NOT NULL,
	bytes  BIGINT NOT NULL,
	rows   BIGINT NOT NULL,
	engine TEXT NOT NULL
);
CREATE INDEX backups_at ON backups (at);

-- The restores of which this database is the outcome. The first start records one, and then recorded_at is set. moved says that nothing was served
-- between the backup and the restore, so that what the backup holds is the present.
CREATE TABLE restores (
	id          TEXT PRIMARY KEY,
	backup_id   TEXT NOT NULL,
	backup_at   BIGINT NOT NULL,
	engine      TEXT NOT NULL,
	schema      BIGINT NOT NULL,
	moved       BIGINT NOT NULL,
	at          BIGINT NOT NULL,
	recorded_at BIGINT
);
