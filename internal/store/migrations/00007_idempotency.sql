-- What became of POST requests with an Idempotency-Key. A row is inserted in the transaction of the act. The id is a hash of who asked and
-- the key, request a keyed hash of the request, answer is sealed.
CREATE TABLE idempotency_keys (
	id         TEXT PRIMARY KEY,
	route      TEXT NOT NULL,
	request    {{.Blob}} NOT NULL,
	state      TEXT NOT NULL CHECK (state IN ('acted', 'kept', 'issued')),
	action     TEXT NOT NULL,
	target_id  TEXT NOT NULL,
	instance   TEXT NOT NULL,
	request_id TEXT NOT NULL,
	answer     {{.Blob}},
	created_at BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
