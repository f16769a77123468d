-- How far the limits of accounts are used, as their upstreams said beside answers: one JSON list for each account, written by the instances that heard it. It belongs to a version of the secret.
CREATE TABLE account_windows (
	credential_id TEXT PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
	version       BIGINT NOT NULL,
	windows       TEXT NOT NULL,
	at            BIGINT NOT NULL
);
