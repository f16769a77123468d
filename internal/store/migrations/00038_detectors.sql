-- What the detectors of incidents remember. One row: up to which leaf of the audit log they have looked, and when the whole log was last verified.
CREATE TABLE detector_cursor (
	id          BIGINT PRIMARY KEY CHECK (id = 1),
	leaf        BIGINT NOT NULL,
	verified_at BIGINT NOT NULL
);

-- One row a detector and subject: what was seen in the last hour (a JSON object of keys and Unix minutes, bounded), and what is usual, which is the mean of
-- the hours in which something was seen, in thousandths.
CREATE TABLE detector_tallies (
	detector    TEXT NOT NULL,
	subject     TEXT NOT NULL,
	seen        TEXT NOT NULL,
	hour        BIGINT NOT NULL,
	peak        BIGINT NOT NULL,
	mean_milli  BIGINT NOT NULL,
	hours       BIGINT NOT NULL,
	quiet_until BIGINT NOT NULL,
	touched_at  BIGINT NOT NULL,
	PRIMARY KEY (detector, subject)
) {{.Lean}};
CREATE INDEX detector_tallies_touched ON detector_tallies (touched_at);
