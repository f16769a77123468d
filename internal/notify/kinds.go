package notify

import (
	"slices"
	"time"
)

// Kind says what a message tells of. The list is closed.
type Kind string

// The kinds.
const (
	Test           Kind = "test"
	AccountRefused Kind = "account.refused"
	RecoveryUsed   Kind = "recovery_code.used"
	PasskeyCopied  Kind = "passkey.copied"
	FactorsReset   Kind = "second_factors.reset"
	RefreshReused  Kind = "refresh_token.reused"
	LoginNeeded    Kind = "account.login_needed"
	AccountCooling Kind = "account.cooling"
	RequestsFailed Kind = "train.failures"
	Conversation   Kind = "train.conversation"

	CredentialExpiry   Kind = "credential.expiry"
	CredentialRotation Kind = "credential.rotation"

	IncidentOpened Kind = "incident.opened"
	IncidentMoved  Kind = "incident.moved"

	LimitNear    Kind = "limit.near"
	LimitReached Kind = "limit.reached"
)

// Severity orders messages by how urgent they are.
type Severity string

// The severities, the least urgent first.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Severities returns the severities, the least urgent first.
func Severities() []Severity { return slices.Clone(severities[:]) }

var severities = [...]Severity{Info, Warning, Critical}

func (s Severity) known() bool { return slices.Contains(severities[:], s) }

// reaches reports whether s is as urgent as least, or more.
func (s Severity) reaches(least Severity) bool {
	return slices.Index(severities[:], s) >= slices.Index(severities[:], least)
}

// KindRow explains one kind of message.
type KindRow struct {
	Kind     Kind
	Meaning  string
	Severity Severity
	// Window is how long a message keeps others with the same key from being sent; they are counted.
	Window time.Duration
	// Key says what the key of the de-duplication is made of.
	Key string
}

// Kinds returns the table of kinds.
func Kinds() []KindRow { return slices.Clone(kinds[:]) }

var kinds = [...]KindRow{
	{Test, "somebody tests a channel; sent to that channel alone, whatever it takes", Info, 0, "never de-duplicated"},
	{AccountRefused, "an upstream refused the credential of an account (401 or 403), so that the account is not lent for a while", Warning, time.Hour, "the account and the version of its secret"},
	{RecoveryUsed, "a recovery code of a person stood in for their second factor", Warning, 0, "never de-duplicated"},
	{PasskeyCopied, "a passkey's counter went backwards, as that of a copy does; the sign-in was refused", Critical, time.Hour, "the passkey"},
	{FactorsReset, "an administrator, or the command line on the server, removed the second factors of a person", Warning, 0, "never de-duplicated"},
	{RefreshReused, "a refresh token came a second time, so that its session ended: two have it", Critical, 0, "never de-duplicated"},
	{LoginNeeded, "a provider refuses to refresh an account, so that a person must log in again", Critical, 24 * time.Hour, "the account and the version of its secret"},
	{AccountCooling, "an upstream limits the rate of an account (429), failed (5xx) or could not be reached, so that the account is not lent for a while; told to the channels of trains that link it, and to others that name this kind", Info, 15 * time.Minute, "the account, the version of its secret and the upstream's status"},
	{RequestsFailed, "requests of a train had an error for an answer, or one that broke off; told to the train's channels, and to others that name this kind", Warning, 5 * time.Minute, "the train"},
	{Conversation, "what an agent of a train was asked and what it answered; told only to channels of the train that have content switched on", Info, talkWindow, "the agent's key, the place in the conversation and the prompt"},
	{CredentialExpiry, "a credential expires in 30 or 14 days (info), in 7 days, tomorrow or today (warning), or has expired (critical)", Warning, 0, "never de-duplicated: each step is told once for a date"},
	{CredentialRotation, "a credential is to be rotated by its plan in 30 or 14 days (info), in 7 days, tomorrow or today, or that day is over (warning); or at once, since it was contained (critical)", Warning, 0, "never de-duplicated: each step is told once for a date"},
	{IncidentOpened, "an incident was opened, by somebody or by a detector: of low severity info, of medium severity warning, of any other critical", Critical, 0, "never de-duplicated: a detector has one open incident for a subject"},
	{IncidentMoved, "an incident became contained, monitoring, resolved, or investigating again; as urgent as the incident", Critical, 0, "never de-duplicated"},
	{LimitNear, "a train, a client key or a person has used 80 % of a limit (info) or of a budget (warning)", Warning, 0, "never de-duplicated: each limit is told once an hour, a day or a month, by its kind"},
	{LimitReached, "a train, a client key or a person has used up a limit (warning) or a budget (critical)", Critical, 0, "never de-duplicated: each limit is told once an hour, a day or a month, by its kind"},
}

// ofTrains reports whether messages of the kind are for the people of a train: of the other channels only those that name the kind take them.
func (k Kind) ofTrains() bool {
	return k == AccountCooling || k == RequestsFailed || k == Conversation
}

func kindRow(k Kind) (KindRow, bool) {
	for _, row := range kinds {
		if row.Kind == k {
			return row, true
		}
	}
	return KindRow{}, false
}

// ChannelKind says how a channel reaches people.
type ChannelKind string

// The kinds of channels.
const (
	Slack   ChannelKind = "slack"
	Webhook ChannelKind = "webhook"
	Mail    ChannelKind = "email"
)

// The secret fields.
const (
	secretURL      = "url"
	secretSigning  = "signing_secret"
	secretPassword = "password"
)

// ChannelRow explains one kind of channel.
type ChannelRow struct {
	Kind    ChannelKind
	Meaning string
	Secrets []SecretField
}

// SecretField is one secret field of a channel.
type SecretField struct {
	Name     string
	Required bool
	Meaning  string
}

// ChannelKinds returns the table of channels.
func ChannelKinds() []ChannelRow { return slices.Clone(channelKinds[:]) }

var channelKinds = [...]ChannelRow{
	{Slack, "an incoming webhook of Slack, or of a service that takes the same", []SecretField{{secretURL, true, "the address of the incoming webhook; whoever has it can post"}}},
	{Webhook, "a POST of JSON, signed as the Standard Webhooks say", []SecretField{
		{secretURL, true, "where to POST; shown only as scheme and host, since paths and queries often hold a token"},
		{secretSigning, true, "whsec_ and 24 to 64 random bytes in base64"},
	}},
	{Mail, "an e-mail through a server that takes mail (SMTP)", []SecretField{{secretPassword, false, "of the user name"}}},
}

func channelRow(k ChannelKind) (ChannelRow, bool) {
	for _, row := range channelKinds {
		if row.Kind == k {
			return row, true
		}
	}
	return ChannelRow{}, false
}
