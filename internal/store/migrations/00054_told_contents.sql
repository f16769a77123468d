-- What agents were asked and what they answered, on its way to the people of a train: sealed, bound to its message, and gone once no delivery of that waits any more.
CREATE TABLE notify_contents (
	message_id TEXT PRIMARY KEY REFERENCES notify_messages (id) ON DELETE CASCADE,
	sealed     {{.Blob}} NOT NULL,
	created_at BIGINT NOT NULL
);
{{.Fence "notify_contents" "sealed" 2}}

-- How many a channel was not told because too many waited, and with which delivery it is told that number.
ALTER TABLE notify_channels ADD COLUMN dropped BIGINT NOT NULL DEFAULT 0;
ALTER TABLE notify_deliveries ADD COLUMN more BIGINT NOT NULL DEFAULT 0;
