-- Of which train a message tells, a private one first: in the list of deliveries it is hidden from whoever does not reach that.
ALTER TABLE notify_messages ADD COLUMN train_id TEXT NOT NULL DEFAULT '';
