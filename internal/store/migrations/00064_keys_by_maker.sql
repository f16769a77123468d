-- The client keys that somebody made and that are not revoked, for when their way to private trains ends.
CREATE INDEX client_keys_maker ON client_keys (created_by, train_id) WHERE revoked_at IS NULL;
