package internal

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "signalbox.dev/signalbox"

// floors is the table of docs/design/house.md: a package imports only packages on lower floors. A package that is in neither this
// table nor in supports has no place in the house.
var floors = map[string]int{
	"cmd/signalbox":       10,
	"internal/app":        9,
	"internal/api":        8,
	"internal/web":        8,
	"internal/broker":     8,
	"internal/demo":       8,
	"internal/deposit":    8,
	"internal/incident":   7,
	"internal/importer":   7,
	"internal/train":      6,
	"internal/mcp":        6,
	"internal/oauth":      5,
	"internal/probe":      5,
	"internal/sink":       4,
	"internal/ledger":     4,
	"internal/relay":      4, // stores through notify
	"internal/vault":      4,
	"internal/identity":   3,
	"internal/audit":      3,
	"internal/notify":     3,
	"internal/contents":   3, // seals through keyring
	"internal/keyring":    2,
	"internal/backup":     2,
	"internal/keeper":     2, // calls through outbound, keeps what it wrapped in the database
	"internal/rate":       2,
	"internal/oidc":       2,
	"internal/provider":   2, // calls through outbound
	"internal/store":      1,
	"internal/outbound":   1, // its refusals are faults
	"internal/jwt":        1, // takes keys as secrets
	"internal/facts":      1, // reads secrets
	"internal/generate":   1, // makes secrets
	"internal/scrub":      1, // looks for secrets
	"internal/secret":     0,
	"internal/fault":      0,
	"internal/etag":       0,
	"internal/strict":     0,
	"internal/usage":      0,
	"internal/quota":      0,
	"internal/transcript": 1, // cuts streams as usage does
	"internal/price":      1, // reads its files strictly
	"internal/stray":      1, // hands a value on as a secret
	"internal/web/ui":     0,
	"internal/connect":    0,
	"client":              0,
}

// supports are the packages that are never shipped; no shipped package may import them. They may import any floor.
var supports = map[string]string{
	"internal":                   "this test",
	"internal/keeper/keepertest": "the APIs of the key management services, for tests; ours",
	"internal/signalboxtest":     "a whole server on a temporary database, for story tests",
	"internal/store/storetest":   "databases of both engines for tests",
	"internal/bench":             "the benchmark that `make bench` runs",
	"internal/picture":           "draws docs/design/house.svg for `make generate`",
}

// sqlHomes may import a database driver in shipped code or in tests.
var sqlHomes = map[string]string{
	"internal/store":           "owns the pools and every dialect difference",
	"internal/store/storetest": "creates and drops test databases",
	"internal/signalboxtest":   "creates and drops test databases",
	"internal/probe":           "signs in at somebody else's PostgreSQL by pgconn, over a connection that outbound's guarded dialer has opened; it knows no statement",
}

// environmentHomes may read or change the process environment.
var environmentHomes = map[string]string{
	"internal/app": "owns the configuration",
}

// dialHomes may open connections by themselves: any name, or only the listed ones.
var dialHomes = map[string]allowance{
	"internal/outbound": {why: "is the guarded client"},
	"client": {
		why:  "talks to the user's own server, which is often on loopback; its callers may pass their own http.Client",
		only: []string{"net/http.DefaultClient", "net/http.Client"},
	},
	"internal/notify": {
		why:  "holds a conversation with a mail server over a connection that outbound's guarded dialer has opened",
		only: []string{"(*github.com/wneessen/go-mail.Client).DialAndSendWithContext"},
	},
}

// allowance says why a package is exempt from a rule; with only, from that much of it.
type allowance struct {
	why  string
	only []string
}

// revealers are the packages that take secrets out of a secret.Value (Reveal, Bytes).
var revealers = map[string]string{
	"internal/secret":   "seals and opens",
	"internal/keyring":  "wraps data keys",
	"internal/keeper":   "sends the root key to the service that wraps it, with its own credentials",
	"internal/mcp":      "its test compares the tokens that were handed out",
	"internal/vault":    "reveals a field to a person, and validates and fingerprints what is stored",
	"internal/train":    "applies a lease to a request",
	"internal/importer": "writes archives, and opens encrypted files with their passphrase",
	"internal/probe":    "sends a secret to the server that it is for",
	"internal/facts":    "reads what may be told of a secret: whose a certificate is, the fingerprint of a key, where a connection string leads",
	"internal/scrub":    "looks for a lent secret in an answer",
	"internal/generate": "encrypts a key that it made with its passphrase; its test reads what was made",
	"internal/oidc":     "sends state, nonce, verifier, code and client secret to a provider",
	"internal/oauth":    "seals what a refresh brought, for the disk",
	"internal/identity": "hashes and compares passwords and bearer secrets",
	"internal/api":      "answers a reveal, shows a new token or key once, and repeats answers that it sealed",
	"internal/web":      "shows the first administrator their token, once",
	"internal/store":    "opens the database by its URL",
	"internal/outbound": "sends what it was handed",
	"internal/app":      "reads the root key and the first password",
	"internal/audit":    "signs checkpoints",
	"internal/notify":   "seals the secrets of a channel and uses them to send",
	"internal/contents": "opens what was kept of a request for a person who may read it",
	"internal/sink":     "seals the secrets of an audit sink and uses them to send",
	"internal/provider": "sends codes, tokens, states, verifiers and client secrets to OAuth servers",
	"internal/jwt":      "signs with a private key and verifies with a shared secret",
	"internal/stray":    "its test reads what it took out of a file",
	"internal/demo":     "plays the far side: the fake upstream checks the credential that reaches it",
	"cmd/signalbox":     "prints what a person asked for",
}

// bookkeeping lists every call of store.DB.Bookkeep, the writes that need no audit event: the function, its purpose, and why nobody
// needs to hear of it. A line whose function no longer calls Bookkeep must go.
var bookkeeping = []bookkeeper{
	{"internal/store.(*feed).trim", "cursor", "drops changes that every instance has long read"},
	{"internal/keyring.(*Ring).writeSeals", "counter", "counts how often data keys have sealed"},
	{"internal/backup.Note", "counter", "writes down how far a backup is that is on record"},
	{"internal/keyring.(*Rekeyer).activate", "rekey", "lets a data key seal whose making is on record"},
	{"internal/keyring.(*Rekeyer).claim", "rekey", "says which instance goes on with a change of the data key that is on record"},
	{"internal/keyring.(*Rekeyer).note", "rekey", "writes down how far it is"},
	{"internal/keyring.(*Rekeyer).leave", "rekey", "forbids to store anything under the old data key"},
	{"internal/keyring.(*pass).store", "rekey", "puts the same values sealed anew in the place of those that lie there; the end is on record with their number"},
	{"internal/rate.(*Limiter).draw", "counter", "counts what callers take of their limits, a share at a time"},
	{"internal/train.(*Room).writeWindows", "counter", "writes down how far accounts are used, as their upstreams said, in batches"},
	{"internal/train.(*presence).write", "counter", "says that an instance is there whose requests count as under way"},
	{"internal/train.(*Room).sweepCounts", "counter", "drops counts in which nobody counts any more"},
	{"internal/vault.(*Room).writeUses", "touch", "writes down when credentials were last lent, in batches"},
	{"internal/identity.(*Room).writeTouches", "touch", "writes down when keys and tokens were last used, in batches"},
	{"internal/identity.(*Room).admit", "counter", "counts a guess of a password or a second factor, over all instances; failures are on record by source and minute"},
	{"internal/identity.(*Room).trimLogins", "counter", "forgets guesses that no longer count"},
	{"internal/identity.(*Room).keepState", "ceremony", "remembers a sign-in elsewhere that somebody began, who is nobody yet"},
	{"internal/identity.(*Room).takeState", "ceremony", "spends it; what it leads to is on record"},
	{"internal/identity.(*Room).trimSessions", "cursor", "drops sessions that reached their limits, which began on record"},
	{"internal/identity.(*Room).passwordWasRight", "counter", "takes a guess back that was right, though the sign-in goes no further"},
	{"internal/identity.(*Room).AskPasskey", "ceremony", "keeps the hash of a challenge; the answer is what is recorded"},
	{"internal/identity.(*Room).answered", "ceremony", "takes a challenge, whatever becomes of its answer, which is recorded or counted"},
	{"internal/identity.(*Room).trimChallenges", "ceremony", "forgets challenges that nobody answered"},
	{"internal/oauth.(*Logins).claimPoll", "ceremony", "says who asks a provider what became of a device login, which began on record"},
	{"internal/oauth.(*Logins).postpone", "ceremony", "says when it may be asked again"},
	{"internal/audit.(*Log).step", "sequence", "moves references to recorded events into the log"},
	{"internal/audit.(*Log).indexNext", "sequence", "writes the search index of leaves that the log has"},
	{"internal/audit.(*Log).sweep", "sequence", "takes back references that a batch had left behind"},
	{"internal/audit.(*Log).sign", "sequence", "signs the size and root that the log has"},
	{"internal/audit.(*Log).enrol", "election", "makes the sequencer's election row"},
	{"internal/audit.(*Log).stand", "election", "takes over a term that has lapsed"},
	{"internal/api.(*service).keepAnswer", "replay", "keeps the answer of an act that is on record, for the same request sent again"},
	{"internal/api.(*service).release", "replay", "gives an Idempotency-Key back whose request made nothing and failed; the failure is on record"},
	{"internal/api.(*service).trim", "replay", "drops Idempotency-Keys after 24 hours"},
	{"internal/notify.(*Room).claim", "outbox", "says which instance delivers a message that an act has stored"},
	{"internal/notify.(*Room).settle", "outbox", "writes down that it was delivered, or when it is tried again; giving up is on record"},
	{"internal/notify.(*Room).trim", "outbox", "drops messages after 30 days"},
	{"internal/notify.(*Room).Tell", "outbox", "stores what agents were asked and answered for those who are told, and that requests failed; the lending is on record, and so is who switched that on"},
	{"internal/notify.(*Room).sweep", "outbox", "drops what agents were asked and answered once nobody waits for it"},
	{"internal/contents.(*Room).keep", "content", "stores what agents were asked and answered; the lending is on record, and so is who switched that on"},
	{"internal/contents.(*Room).sweep", "content", "deletes it when the settings of its train say so, which are on record"},
	{"internal/incident.(*Detectors).locate", "cursor", "makes the row that says up to where detectors have judged the audit log"},
	{"internal/incident.(*Detectors).judge", "cursor", "moves that place on and counts; what is opened is recorded in the same transaction"},
	{"internal/incident.(*Detectors).unverified", "cursor", "moves it over a record that cannot be read; the incident is recorded in the same transaction"},
	{"internal/incident.(*Detectors).VerifyWhenDue", "cursor", "says which instance verifies the audit log today"},
	{"internal/incident.(*Room).claim", "outbox", "says which instance asks a provider to end a grant; that it is to be ended, and what came of it, is on record"},
	{"internal/incident.(*Room).postpone", "outbox", "says when the provider is asked again"},
	{"internal/sink.(*Room).takeOver", "cursor", "says which instance sends to a sink; an event for it would be sent to the sink in turn"},
	{"internal/sink.(*Room).prolong", "cursor", "likewise"},
	{"internal/sink.(*Room).advance", "cursor", "says how much of the log a receiver has"},
	{"internal/sink.(*Room).failed", "cursor", "says when it is tried again"},
	{"internal/sink.(*Room).release", "cursor", "ends the own claims at the end of the process"},
	{"internal/ledger.(*Room).take", "cursor", "says which instance adds up usage from the log"},
	{"internal/ledger.(*Room).add", "cursor", "adds records of the log to the sums of usage, which are made of nothing else"},
	{"internal/ledger.(*Room).renew", "cursor", "orders that those sums are dropped, to make them anew from the log"},
	{"internal/ledger.(*Room).drop", "cursor", "drops a slice of those sums, to make them anew from the log"},
	{"internal/ledger.(*Room).release", "cursor", "ends the own claim at the end of the process"},
	{"internal/audit.(*Log).resign", "election", "ends the own term at the end of the process"},
}

type bookkeeper struct{ site, purpose, why string }

// stateWrites are the assignments to package-level variables that have no other way, as "package: variable".
var stateWrites = map[string]string{}

// rules are the checks. Each has cases in house_proof_test.go that prove that it catches what it is for.
var rules = []rule{
	{"loads", loads},
	{"has a floor", hasFloor},
	{"imports lower floors only", importsLowerFloors},
	{"ships no support package", shipsNoSupport},
	{"ships no test library", shipsNoTestLibrary},
	{"links no test library", linksNoTestLibrary},
	{"only store knows SQL", onlyStoreKnowsSQL},
	{"only app reads the environment", onlyAppReadsEnvironment},
	{"only outbound dials", onlyOutboundDials},
	{"bookkeeping is listed", bookkeepingIsListed},
	{"revealers are listed", revealersAreListed},
	{"no panic", noPanic},
	{"exits in main only", exitsInMainOnly},
	{"no init", noInit},
	{"no package state", noPackageState},
	{"small interfaces", smallInterfaces},
	{"small files", smallFiles},
	{"package comment", packageComment},
	{"has tests", hasTests},
	{"no cgo", noCgo},
}

type rule struct {
	name  string
	check func(*house) []finding
}

// finding is one breach: where, and what to do about it.
type finding struct{ at, what string }

func (f finding) String() string { return f.at + ": " + f.what }

func found(at, format string, args ...any) finding {
	return finding{at: at, what: fmt.Sprintf(format, args...)}
}

func TestHouse(t *testing.T) {
	h := realHouse(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range r.check(h) {
				t.Error(f)
			}
		})
	}
}

// TestFloorsAreTheDesign holds the table of this test and the table that people read together.
func TestFloorsAreTheDesign(t *testing.T) {
	text, err := os.ReadFile("../docs/design/house.md")
	if err != nil {
		t.Fatal(err)
	}
	written := designFloors(string(text))
	for path, floor := range floors {
		got, ok := written[path]
		switch {
		case !ok:
			t.Errorf("docs/design/house.md does not name %s; the house test puts it on floor %d", path, floor)
		case got != floor:
			t.Errorf("docs/design/house.md puts %s on floor %d, the house test on floor %d", path, got, floor)
		}
	}
	for path := range written {
		if _, ok := floors[path]; !ok {
			t.Errorf("docs/design/house.md gives %s a floor; the house test does not know it", path)
		}
	}
}

var designRow = regexp.MustCompile("(?m)^\\| *(\\d+) *\\| *`([^`]+)` *\\|")

// designFloors reads the rows "| floor | `package` | …" of the design.
func designFloors(text string) map[string]int {
	out := map[string]int{}
	for _, m := range designRow.FindAllStringSubmatch(text, -1) {
		floor, err := strconv.Atoi(m[1])
		if err == nil {
			out[strings.TrimSpace(m[2])] = floor
		}
	}
	return out
}

func TestDesignFloors(t *testing.T) {
	got := designFloors("| Floor | Package | Owns |\n|---|---|---|\n| 10 | `cmd/signalbox` | x |\n| 0 | `client` | y `z` |\ntext `a`\n")
	if len(got) != 2 || got["cmd/signalbox"] != 10 || got["client"] != 0 {
		t.Fatalf("read %v", got)
	}
}
