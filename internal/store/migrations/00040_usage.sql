-- What was used, added up from the audit log. All of it can be made anew from there. One row says up to which leaf the log was added up, by which form of
-- the sums, and which instance does it: one at a time, the holder of the epoch.
CREATE TABLE usage_follower (
	id       BIGINT PRIMARY KEY CHECK (id = 1),
	form     BIGINT NOT NULL,
	position BIGINT NOT NULL,
	holder   TEXT NOT NULL,
	epoch    BIGINT NOT NULL,
	until    BIGINT NOT NULL
);

-- Who used what with which model: the words of the sums below, which name them by number. Nothing here refers to what can be deleted.
CREATE TABLE usage_lines (
	id            BIGINT PRIMARY KEY,
	train_id      TEXT NOT NULL,
	credential_id TEXT NOT NULL,
	key_id        TEXT NOT NULL,
	user_id       TEXT NOT NULL,
	model         TEXT NOT NULL,
	UNIQUE (train_id, credential_id, key_id, user_id, model)
);

-- The sums of one line over an hour (span 0), a day (1) and a month (2) of UTC, so that a year is twelve rows a line and not 8,760; and those of a model over all
-- lines (3 to 5), whose line has nothing but the model.
CREATE TABLE usage_sums (
	span                     BIGINT NOT NULL,
	begins                   BIGINT NOT NULL,
	line                     BIGINT NOT NULL,
	complete                 BIGINT NOT NULL,
	partial                  BIGINT NOT NULL,
	unknown                  BIGINT NOT NULL,
	failed                   BIGINT NOT NULL,
	input_tokens             BIGINT NOT NULL,
	output_tokens            BIGINT NOT NULL,
	cache_read_tokens        BIGINT NOT NULL,
	cache_creation_5m_tokens BIGINT NOT NULL,
	cache_creation_1h_tokens BIGINT NOT NULL,
	tool_calls               BIGINT NOT NULL,
	PRIMARY KEY (span, begins, line)
) {{.Lean}};

-- Intents whose outcome is not in the log yet, or never will be.
CREATE TABLE usage_open (
	lease      TEXT PRIMARY KEY,
	granted_at BIGINT NOT NULL,
	line       BIGINT NOT NULL,
	costs      BIGINT NOT NULL
) {{.Lean}};
CREATE INDEX usage_open_granted ON usage_open (granted_at);

-- What things were last called when they were used, and who made a key, for when they are gone.
CREATE TABLE usage_subjects (
	id    TEXT PRIMARY KEY,
	name  TEXT NOT NULL,
	owner TEXT NOT NULL
) {{.Lean}};
