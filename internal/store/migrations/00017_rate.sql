-- How much each caller has taken in the current minute, over all instances. The id is a hash of the rule and the caller.
CREATE TABLE rate_counters (
	id     TEXT PRIMARY KEY,
	period BIGINT NOT NULL,
	taken  BIGINT NOT NULL
) {{.Lean}};
CREATE INDEX rate_counters_period ON rate_counters (period);
