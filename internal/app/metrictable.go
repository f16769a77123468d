package app

import "slices"

// Metric is one row of the table of metrics, which the registry, the reference and the tests of the dashboard and the alerts derive from.
type Metric struct {
	Name string
	// Type is counter, gauge or histogram.
	Type string
	// Unit is what the value counts or measures in.
	Unit   string
	Labels []string
	Help   string

	buckets []float64 // of a histogram: upper bounds
}

// Metrics returns the table, in the order of the reference. Beside these a scrape holds the go_ and process_ metrics of the Prometheus library.
func Metrics() []Metric { return slices.Clone(metricTable[:]) }

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// metric is a row's place in the table.
type metric int

const (
	proxyAttempts metric = iota
	proxyDuration
	proxyFirstByte
	proxyInFlight
	proxyRefusals
	proxyFailOvers
	proxyBodies
	leasesOpen
	coolDowns
	accounts
	trainAccounts
	auditBehind
	auditLeaves
	auditUnsigned
	auditUnanchored
	auditCheckpoint
	auditAnchorFailing
	auditLeading
	auditSinks
	auditSinkLag
	auditSinkBehind
	auditSinkBatches
	auditCommits
	auditCommitEvents
	auditCommitDuration
	auditLost
	feedAge
	poolConns
	poolMax
	poolWaits
	poolWaited
	oauthRefreshes
	oauthStored
	oauthDuration
	oauthWaits
	oauthOwed
	notifyAttempts
	notifyOldest
	relayLost
	contentsLost
	remindersTold
	remindersLast
	rekeyRemaining
	dataKeySeals
	backupTime
	backupBytes
	apiRequests
	apiDuration
	authFailures
	clientKeys
	tokens
	draining
	sealedGauge
	tlsNotAfter
	buildInfo
	metricCount
)

var (
	pairLabels    = []string{"train", "account"}
	answerBuckets = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	beginBuckets  = []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120}
	quickBuckets  = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5}
	countBuckets  = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

var metricTable = [metricCount]Metric{
	proxyAttempts: {Name: "signalbox_proxy_attempts_total", Type: counter, Unit: "attempts", Labels: []string{"train", "account", "result", "status"},
		Help: "Attempts to have an account's upstream answer a proxied request, by how they ended and by the upstream's status (none when there was no answer). A request that fails over makes several."},
	proxyDuration: {Name: "signalbox_proxy_attempt_duration_seconds", Type: histogram, Unit: "seconds", Labels: pairLabels, buckets: answerBuckets,
		Help: "Time from the start of an attempt to its end, the whole of a stream included."},
	proxyFirstByte: {Name: "signalbox_proxy_first_byte_seconds", Type: histogram, Unit: "seconds", Labels: pairLabels, buckets: beginBuckets,
		Help: "Time from the start of an attempt until the headers of the upstream's answer came, of answers that were passed on."},
	proxyInFlight: {Name: "signalbox_proxy_requests_in_flight", Type: gauge, Unit: "requests",
		Help: "Requests under /v1 and /use that are under way, those that will be refused included."},
	proxyRefusals: {Name: "signalbox_proxy_refusals_total", Type: counter, Unit: "requests", Labels: []string{"code"},
		Help: "Requests under /v1 and /use that Signalbox answered with an error of its own, by its code."},
	proxyFailOvers: {Name: "signalbox_proxy_failovers_total", Type: counter, Unit: "requests", Labels: pairLabels,
		Help: "Requests that failed at this account before the first byte and were lent another one."},
	proxyBodies: {Name: "signalbox_proxy_held_body_bytes", Type: gauge, Unit: "bytes",
		Help: "Memory reserved for the bodies of requests under way; the budget is 512 MiB."},
	leasesOpen: {Name: "signalbox_leases_open", Type: gauge, Unit: "leases",
		Help: "Leases that are granted and not settled."},
	coolDowns: {Name: "signalbox_cooldowns_total", Type: counter, Unit: "cool-downs", Labels: []string{"train", "account", "reason"},
		Help: "Cool-downs that this instance has set, by the train whose request met the failure and by the failure: rate_limited (429), refused (401, 403), failed (5xx) or unreachable."},
	accounts: {Name: "signalbox_accounts", Type: gauge, Unit: "accounts", Labels: []string{"state"},
		Help: "Linked accounts that are usable, cooling down (cooling) or cannot be lent (unusable) now."},
	trainAccounts: {Name: "signalbox_train_accounts", Type: gauge, Unit: "accounts", Labels: []string{"train", "state"},
		Help: "Accounts linked to a train that are usable, cooling or unusable now; those of a disabled train are unusable."},
	auditBehind: {Name: "signalbox_audit_lag_seconds", Type: gauge, Unit: "seconds",
		Help: "Time since the audit log was last seen to be sequenced up to what waited then; no event that waits is older, late commits aside."},
	auditLeaves: {Name: "signalbox_audit_leaves", Type: gauge, Unit: "events",
		Help: "Events in the Merkle log, as this instance last saw it."},
	auditUnsigned: {Name: "signalbox_audit_unsigned_leaves", Type: gauge, Unit: "events",
		Help: "Events in the Merkle log that no checkpoint covers yet."},
	auditUnanchored: {Name: "signalbox_audit_unanchored_leaves", Type: gauge, Unit: "events",
		Help: "Events in the Merkle log that no checkpoint in this instance's checkpoint file covers yet."},
	auditCheckpoint: {Name: "signalbox_audit_checkpoint_timestamp_seconds", Type: gauge, Unit: "seconds",
		Help: "Unix time at which the newest checkpoint was signed; 0 before the first. None is signed while there is nothing new."},
	auditAnchorFailing: {Name: "signalbox_audit_anchor_failing", Type: gauge, Unit: "0 or 1",
		Help: "Whether the checkpoint file could not be extended at the last try."},
	auditLeading: {Name: "signalbox_audit_leading", Type: gauge, Unit: "0 or 1",
		Help: "Whether this instance is the one that sequences the audit log."},
	auditSinks: {Name: "signalbox_audit_sinks", Type: gauge, Unit: "sinks", Labels: []string{"state"},
		Help: "Audit sinks, as this instance last saw them: current, catching_up, late (something waits for longer than it should), failing (the last try failed) or paused."},
	auditSinkLag: {Name: "signalbox_audit_sink_lag_seconds", Type: gauge, Unit: "seconds",
		Help: "How long the oldest record, or signed checkpoint, has waited that a sink lacks, of the sink that lacks it longest; paused ones aside. A sink of checkpoints lags up to its interval."},
	auditSinkBehind: {Name: "signalbox_audit_sink_behind_leaves", Type: gauge, Unit: "events",
		Help: "How many events the sink of records lacks that lacks the most; paused ones aside."},
	auditSinkBatches: {Name: "signalbox_audit_sink_batches_total", Type: counter, Unit: "batches", Labels: []string{"sink", "outcome"},
		Help: "Batches of the audit log that this instance has sent, by the kind of sink (webhook, slack, syslog) and by how that ended: delivered or failed."},
	auditCommits: {Name: "signalbox_audit_commits_total", Type: counter, Unit: "commits", Labels: []string{"result"},
		Help: "Tries to make a batch of lease events durable: stored or failed."},
	auditCommitEvents: {Name: "signalbox_audit_commit_events", Type: histogram, Unit: "events", buckets: countBuckets,
		Help: "Lease events that shared one stored commit."},
	auditCommitDuration: {Name: "signalbox_audit_commit_duration_seconds", Type: histogram, Unit: "seconds", buckets: quickBuckets,
		Help: "Time that a try to make a batch of lease events durable took."},
	auditLost: {Name: "signalbox_audit_lost_outcomes_total", Type: counter, Unit: "outcomes",
		Help: "Outcomes of leases that could not be recorded; their intents show as unknown."},
	feedAge: {Name: "signalbox_feed_age_seconds", Type: gauge, Unit: "seconds",
		Help: "Age of the news by which keys and accounts are judged; over 1 nothing is lent, over 10 streams are cut."},
	poolConns: {Name: "signalbox_database_connections", Type: gauge, Unit: "connections", Labels: []string{"pool", "state"},
		Help: "Connections to the database, in_use or idle."},
	poolMax: {Name: "signalbox_database_connections_max", Type: gauge, Unit: "connections", Labels: []string{"pool"},
		Help: "Connections that a pool may have."},
	poolWaits: {Name: "signalbox_database_connection_waits_total", Type: counter, Unit: "waits", Labels: []string{"pool"},
		Help: "How often somebody had to wait for a connection of a pool."},
	poolWaited: {Name: "signalbox_database_connection_wait_seconds_total", Type: counter, Unit: "seconds", Labels: []string{"pool"},
		Help: "Time spent waiting for a connection of a pool."},
	oauthRefreshes: {Name: "signalbox_oauth_refreshes_total", Type: counter, Unit: "calls", Labels: []string{"provider", "verdict"},
		Help: "Calls of a token endpoint that refresh an access token, by what they meant: issued, not_processed, server_error, ambiguous or refused. A provider that is no row of a table counts as custom."},
	oauthStored: {Name: "signalbox_oauth_refreshed_total", Type: counter, Unit: "tokens", Labels: []string{"provider"},
		Help: "Fresh tokens that this instance has stored."},
	oauthDuration: {Name: "signalbox_oauth_refresh_duration_seconds", Type: histogram, Unit: "seconds", Labels: []string{"provider"}, buckets: beginBuckets,
		Help: "Time that a call of a token endpoint took."},
	oauthWaits: {Name: "signalbox_oauth_refresh_waits_total", Type: counter, Unit: "waits", Labels: []string{"provider", "for"},
		Help: "How often somebody waited for a refresh instead of making one: for one of this instance (coalesced) or of another (crossed)."},
	oauthOwed: {Name: "signalbox_oauth_unstored_answers", Type: gauge, Unit: "answers",
		Help: "Answers of token endpoints that the database does not have yet, fresh tokens among them; they are kept and stored when it takes them."},
	notifyAttempts: {Name: "signalbox_notify_attempts_total", Type: counter, Unit: "attempts", Labels: []string{"channel", "outcome"},
		Help: "Attempts of this instance to deliver a notification, by the kind of channel (slack, webhook, email) and by how they ended: delivered, retried or failed (given up)."},
	notifyOldest: {Name: "signalbox_notify_oldest_waiting_seconds", Type: gauge, Unit: "seconds",
		Help: "Age of the oldest notification that waits for an enabled channel, of all instances; 0 when none waits."},
	relayLost: {Name: "signalbox_relay_lost_total", Type: counter, Unit: "conversations",
		Help: "What agents of trains were asked and answered and this instance could not have told, because too much waited or the database was away; the channels of the train are told the number."},
	contentsLost: {Name: "signalbox_contents_lost_total", Type: counter, Unit: "requests",
		Help: "Requests of trains that keep what their agents are asked and answer, of which this instance could not, because too much waited or the database was away."},
	remindersTold: {Name: "signalbox_credential_reminders_total", Type: counter, Unit: "reminders", Labels: []string{"about", "step"},
		Help: "Reminders that this instance has stored, of an expiry or a rotation, by their step: days before the date, 0 on the day, -1 overdue."},
	remindersLast: {Name: "signalbox_credential_reminders_last_timestamp_seconds", Type: gauge, Unit: "seconds",
		Help: "When this instance last went through all credentials for reminders, as Unix time; 0 before that."},
	rekeyRemaining: {Name: "signalbox_rekey_remaining", Type: gauge, Unit: "values",
		Help: "Sealed values that are still under the old data key while it is being changed, as of the last look of this instance; 0 when no change is under way."},
	dataKeySeals: {Name: "signalbox_data_key_seals", Type: gauge, Unit: "seals",
		Help: "How often the active data key has sealed, all instances together as far as this one knows. It refuses shortly before 4294967296 (2^32)."},
	backupTime: {Name: "signalbox_backup_last_timestamp_seconds", Type: gauge, Unit: "seconds",
		Help: "The moment that the last backup of signalbox backup shows, as Unix time, read every minute; 0 when there is none."},
	backupBytes: {Name: "signalbox_backup_last_bytes", Type: gauge, Unit: "bytes",
		Help: "Size of the last backup of signalbox backup; 0 when there is none."},
	apiRequests: {Name: "signalbox_api_requests_total", Type: counter, Unit: "requests", Labels: []string{"method", "route", "class"},
		Help: "Requests under /api, by the operation's method and path pattern (unmatched when there was none) and by the class of the status."},
	apiDuration: {Name: "signalbox_api_request_duration_seconds", Type: histogram, Unit: "seconds", Labels: []string{"method", "route"}, buckets: quickBuckets,
		Help: "Time that a request under /api took."},
	authFailures: {Name: "signalbox_authentication_failures_total", Type: counter, Unit: "attempts", Labels: []string{"kind"},
		Help: "Failed authentications: client_key, token, login, setup_link or other."},
	clientKeys: {Name: "signalbox_client_keys", Type: gauge, Unit: "keys",
		Help: "Client keys that are not revoked, expired ones included."},
	tokens: {Name: "signalbox_tokens", Type: gauge, Unit: "tokens",
		Help: "Personal access tokens that are not revoked, expired ones included."},
	tlsNotAfter: {Name: "signalbox_tls_certificate_expiry_timestamp_seconds", Type: gauge, Unit: "seconds",
		Help: "When the certificate of the listener expires, in seconds since 1970; 0 without one. A renewed one counts as soon as it is read."},
	draining: {Name: "signalbox_draining", Type: gauge, Unit: "0 or 1",
		Help: "Whether this instance is shutting down and sends new requests elsewhere."},
	sealedGauge: {Name: "signalbox_sealed", Type: gauge, Unit: "0 or 1",
		Help: "Whether the servers are sealed. A sealed one answers 1 on its metrics listener and has no other metric; on the main listener it answers 503."},
	buildInfo: {Name: "signalbox_build_info", Type: gauge, Unit: "always 1", Labels: []string{"version", "go_version", "engine"},
		Help: "Which version runs, built with which Go, on which database engine."},
}
