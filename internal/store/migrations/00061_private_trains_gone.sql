-- A private train that is deleted is remembered by the database itself: an instance of a version before, beside a newer one, deletes without a word of it.
{{if .Postgres}}
CREATE FUNCTION private_trains_going() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO private_trains_gone (train_id, deleted_at) VALUES (OLD.id, floor(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER trains_private_gone AFTER DELETE ON trains FOR EACH ROW WHEN (OLD.visibility <> 'organisation') EXECUTE FUNCTION private_trains_going();
{{else}}
CREATE TRIGGER trains_private_gone AFTER DELETE ON trains WHEN OLD.visibility <> 'organisation'
BEGIN INSERT OR IGNORE INTO private_trains_gone (train_id, deleted_at) VALUES (OLD.id, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)); END;
{{end}}
