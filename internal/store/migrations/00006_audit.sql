CREATE INDEX audit_events_on_behalf_of ON audit_events (on_behalf_of, id);
{{if not .Postgres}}
CREATE TRIGGER audit_batches_wait AFTER INSERT ON audit_batches BEGIN INSERT INTO audit_pending (source_id) VALUES (NEW.id); END;
{{end}}
