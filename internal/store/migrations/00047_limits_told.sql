-- Which limits and budgets people were told of, at 80 and at 100 percent, and until when that is not told again.
CREATE TABLE quota_told (
	id      TEXT PRIMARY KEY,
	until   BIGINT NOT NULL
) {{.Lean}};
