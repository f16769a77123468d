-- What a request did, among the acts of people; uses of credentials are in the batches.
CREATE INDEX audit_events_request ON audit_events (request_id, id);
