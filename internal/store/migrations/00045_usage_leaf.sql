-- The hash of the last leaf that was added up, by which it is seen that the log is another one. A position of -1 says that the sums are being dropped, to be made anew.
ALTER TABLE usage_follower ADD COLUMN leaf TEXT NOT NULL DEFAULT '';
