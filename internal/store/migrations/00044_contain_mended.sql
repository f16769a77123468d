-- The date of a rotation as it is asked for since there is rotate_at. Expression and condition are those of internal/vault/read.go: any others, and the index is not used.
DROP INDEX credentials_rotation;
CREATE INDEX credentials_rotation ON credentials ((CASE WHEN rotate_at IS NULL OR (rotate_every_days > 0 AND (COALESCE(last_rotated_at, created_at) + rotate_every_days * 86400000000) < rotate_at) THEN (COALESCE(last_rotated_at, created_at) + rotate_every_days * 86400000000) ELSE rotate_at END)) WHERE rotate_every_days > 0 OR rotate_at IS NOT NULL;
