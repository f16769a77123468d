package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// chapter is what the help and the manual say of a command beyond its one line: how it behaves, and how it is used.
type chapter struct{ path, long, example string }

// manual has a chapter for every command that has none where it is made. The test of the tree fails on a command without.
func manual() []chapter {
	return []chapter{
		{"serve", "", "signalbox serve\nsignalbox serve --listen 127.0.0.1:9000 --data-dir /srv/signalbox\nDATABASE_URL='postgres://signalbox@db.lan/signalbox?sslmode=verify-full' SIGNALBOX_ROOT_KEY_FILE=/run/secrets/root.key signalbox serve"},
		{"dev", "Starts a server on throw-away data, with a sample train and a built-in fake of an LLM provider behind it, and prints what to paste into another terminal. Nothing of a real installation is touched; Ctrl-C ends it and removes its data.", "signalbox dev\nsignalbox dev --json --listen 127.0.0.1:0"},
		{"init", "", "signalbox init --admin-email ada@example.com\nsignalbox init --admin-email ada@example.com --password-stdin --json < password"},
		{"doctor", "Checks the set-up and says what to do about each finding: the configuration in force and where each value comes from, the root key, the data directory, the database and its schema, the audit log, the listener. It opens the data directory itself, also beside a running server and where nothing exists yet, and changes nothing.\n\nIt also looks into the settings files of the working directory and the home (.env, .mcp.json, .claude/settings.json and the like) for values that look like credentials. It names file, line and variable and the command that stores the value; it never prints one. The exit code is 1 when something is broken, and 0 otherwise.", "signalbox doctor\nsignalbox doctor --json --data-dir /srv/signalbox"},
		{"migrate", "Brings the database to the schema of this version and says what it did. The start of a server does the same; do it by itself to choose the moment. Beside SQLite it is refused while a server runs. There is no way back but a backup.", "signalbox migrate --status\nsignalbox migrate\nsignalbox migrate --print --engine postgres"},
		{"keygen", "Makes a new root key, 32 random bytes in base64, and prints it or writes it to a new file with mode 0600. A root key opens the keyring of the database that was first started with it, and no other. Servers on PostgreSQL need one; beside SQLite the first start makes its own.", "signalbox keygen --output /run/secrets/root.key\nsignalbox keygen --json"},
		{"man", "Prints the manual page of a command in the form that man reads, or with --output writes the pages of all commands into a directory.", "signalbox man cred add\nsignalbox man --output /usr/local/share/man/man1"},

		{"account add", "Stores an account that agents are lent, and links it to a train: an API key, with --oauth what a login at the provider brings, or with --type oauth tokens that you have already. Keys and tokens are asked for without echo, or read from standard input or a file; they never stand on the command line.", "signalbox account add\nsignalbox account add team-beta --oauth\nsignalbox account add moved --type oauth --tokens-file tokens.json\nsignalbox account add team-beta --train web --priority 2\nsignalbox account add spare --no-link --api-key-stdin < key"},
		{"account list", "Lists the credentials that can serve an LLM provider. Of a key only the last four characters are shown.", "signalbox account list\nsignalbox account list --json"},
		{"account status", "Shows whether each account can be used now, its place in each train it is linked to, and why.", "signalbox account status\nsignalbox account status default --json"},
		{"account refresh", "Refreshes the tokens of one OAuth account now, or with --all those that are near their end. At most one call of a provider is under way for a credential, whoever asks and on whichever instance. With --dry-run it says what would be refreshed and refreshes nothing. The exit code is that of a failure if one failed.", "signalbox account refresh team-beta\nsignalbox account refresh --all --dry-run\nsignalbox account refresh --all --force --json"},
		{"account pause", "Disables an account: no train is lent it, and open uses are cut. It keeps its links and its key.", "signalbox account pause team-beta"},
		{"account resume", "Enables a paused account again. One that is marked compromised is refused: it needs a new key first.", "signalbox account resume team-beta"},

		{"connect claude-code", "Issues a client key of a train and prints what to paste into a shell before Claude Code is started there, or with --write puts it into .claude/settings.json. A settings file that holds a working key of the train keeps it.", "signalbox connect claude-code\nsignalbox connect claude-code --write --train web\nsignalbox connect claude-code --write --replace"},
		{"connect sdk", "Issues a client key of a train and prints the variables that the official SDKs read, or with --write puts them into .env. A file that holds a working key of the train keeps it.", "signalbox connect sdk --train web --expires 90d\nsignalbox connect sdk --write"},

		{"train create", "Makes a train: a project or workload with client keys of its own. Link accounts to it, and it may be lent them.", "signalbox train create web --name 'The web team'\nsignalbox train create batch --strategy priority --key-limit 3"},
		{"train list", "Lists the trains, with how many credentials each may be lent.", "signalbox train list\nsignalbox train list --json"},
		{"train show", "Shows a train and every credential that is linked to it.", "signalbox train show default"},
		{"train link", "Lets a train be lent a credential. The credential is named by its name, its account id or its id.", "signalbox train link web team-alpha\nsignalbox train link web team-beta --priority 2 --alias spare"},
		{"train unlink", "Takes a credential from a train. Open uses are cut; the credential stays stored.", "signalbox train unlink web team-beta"},
		{"train explain", "Shows the accounts of a train in the order in which the next request would try them, and why each is where it is.", "signalbox train explain default\nsignalbox train explain web --json"},
		{"train rm", "Deletes a train with its links and revokes its client keys. The record of what it was lent stays.", "signalbox train rm web\nsignalbox train rm web --yes"},

		{"key issue", "Issues a client key, with which an agent borrows from the train. It is shown once and stored as a hash; the key alone goes to standard output.", "signalbox key issue default --name laptop --expires 90d\nsignalbox key issue web --json"},
		{"key list", "Lists the client keys of a train with their state and last use, never the keys.", "signalbox key list default"},
		{"key revoke", "Ends a client key at once, everywhere; open uses are cut. A revoked key stays in the list until it is purged.", "signalbox key revoke default laptop\nsignalbox key revoke default laptop --purge"},
		{"key replace", "Issues a successor of a client key, and lets the old one go on for the overlap, so that agents can be changed over one by one.", "signalbox key replace default laptop --overlap 2h"},

		{"cred add", "Stores a credential. On a terminal its secret fields are asked for without echo; a key in PEM can be pasted whole. Otherwise they come from standard input, from files, or from a variable in a settings file, and never from the command line.", "signalbox cred add 'Gitea Admin' --username admin --external-url https://git.example.com\nsignalbox cred add deploy --type ssh_key --secret-file private_key=id_ed25519\nsignalbox cred add github --type api_key --secret-from api_key=.env:GITHUB_TOKEN\nsignalbox cred add db --type connection_string --secret-stdin connection_string < dsn"},
		{"cred get", "Shows what may be read of a credential: everything but its secret fields.", "signalbox cred get 'Gitea Admin'"},
		{"cred list", "Lists credentials, filtered by any of their metadata. No list holds a secret.", "signalbox cred list --type ssh_key --tag production\nsignalbox cred list --expires-before 30d --all --json"},
		{"cred search", "Lists the credentials whose metadata hold a text. Further filters narrow it.", "signalbox cred search gitea\nsignalbox cred search web --status expiring --json"},
		{"cred edit", "Changes a credential's metadata; its secret stays. A new secret is given with cred rotate.", "signalbox cred edit 'Gitea Admin' --description 'the forge' --expires 90d\nsignalbox cred edit deploy --status compromised\nsignalbox cred edit deploy --clear expires_at"},
		{"cred rotate", "Gives a credential a new version of its secret. The older versions stay and can be restored.", "signalbox cred rotate 'Gitea Admin' --reason 'someone left'\nsignalbox cred rotate deploy --secret-file private_key=id_new"},
		{"cred rm", "Deletes a credential and destroys the sealed material of all its versions. The record of its uses stays.", "signalbox cred rm 'Gitea Admin'\nsignalbox cred rm 'Gitea Admin' --yes"},
		{"cred history", "Lists the versions of a credential's secret, without the secrets, or makes a new version with the secret of an older one.", "signalbox cred history deploy\nsignalbox cred history deploy --restore 1"},
		{"cred reveal", "Prints one secret field. Who asked, for which field and why are recorded before it is opened, and everybody who may read the record can see it.", "signalbox cred reveal 'Gitea Admin' --reason 'hand-over'\nsignalbox cred reveal deploy private_key --reason 'new server' --json"},

		{"cred grant", "Shows who may use, reveal and manage a credential, and changes it. The three verbs are apart: use is to be lent it, reveal to see its secret, manage to change it and to grant. Whoever has one of them sees the metadata. With --client or --service the grant holds for all that the client or the service has. Those whose role reaches every credential are not listed.\n\n--to replaces what the grantee had. A train that may not use a credential any more is unlinked from it.", "signalbox cred grant 'Gitea Admin'\nsignalbox cred grant 'Gitea Admin' --to person:ada@example.com --to group:ops --allow use,reveal\nsignalbox cred grant 'Gitea Admin' --revoke person:ada@example.com\nsignalbox cred grant --client Acme --to train:web --allow use"},

		{"client create", "Stores a client: a customer whose credentials are kept. Credentials, services and infrastructure may belong to it, and what is granted on it holds for all its credentials.", "signalbox client create Acme --contact 'it@acme.example'\nsignalbox client create Acme --description 'hosting, since 2019' --json"},
		{"client list", "Lists the clients that you may see: all of them, or those that your credentials name.", "signalbox client list\nsignalbox client list --search acme --json"},
		{"client show", "Shows a client. It is named by its name or its id.", "signalbox client show Acme"},
		{"client edit", "Changes a client. Its id stays, and with it what belongs to it and what is granted on it.", "signalbox client edit Acme --name 'Acme GmbH' --contact 'it@acme.example'"},
		{"client delete", "Deletes a client that nothing belongs to any more, with what was granted on it. Where something still does, it says how much and names the first, and deletes nothing.", "signalbox client delete Acme\nsignalbox client delete Acme --yes"},
		{"service create", "Stores a service: an application of a client, or of the house. What is granted on it holds for all its credentials.", "signalbox service create Billing --client Acme --address https://billing.acme.example\nsignalbox service create 'Single sign-on'"},
		{"service list", "Lists the services that you may see, of all clients or of one.", "signalbox service list\nsignalbox service list --client Acme"},
		{"service show", "Shows a service. It is named by its name, if no other has the same, or its id.", "signalbox service show Billing"},
		{"service edit", "Changes a service. With --client it goes to another client; with an empty one it is nobody's in particular.", "signalbox service edit Billing --address https://pay.acme.example\nsignalbox service edit Billing --client ''"},
		{"service delete", "Deletes a service that no credential belongs to any more, with what was granted on it. Where one still does, it says how many and names the first, and deletes nothing.", "signalbox service delete Billing --yes"},
		{"infra create", "Stores infrastructure: a host, a network or a device, of a client or of the house. The address is for people; where a secret goes, a credential says itself.", "signalbox infra create db-1 --client Acme --address db-1.acme.example\nsignalbox infra create 'Branch office' --kind network --address 10.4.0.0/16"},
		{"infra list", "Lists the infrastructure that you may see, of all clients or of one.", "signalbox infra list\nsignalbox infra list --client Acme --kind host"},
		{"infra show", "Shows infrastructure. It is named by its name, if no other has the same, or its id.", "signalbox infra show db-1"},
		{"infra edit", "Changes infrastructure. With --client it goes to another client; with an empty one it is nobody's in particular.", "signalbox infra edit db-1 --address 10.4.0.7"},
		{"infra delete", "Deletes infrastructure that no credential belongs to any more. Where one still does, it says how many and names the first, and deletes nothing.", "signalbox infra delete db-1 --yes"},

		{"oauth login", "Logs in at an OAuth provider and stores the tokens: in a new credential of that name, or as a new version of the one that is there, which keeps its id, its links and its grants. By default it prints the address of the consent page and waits on a port of this machine for the browser to come back. Where the provider's page shows a code (anthropic), it asks for that. With --device you type a code on another device; with --client-credentials a program's own secret is used and nobody is asked.\n\nA login lasts ten minutes, works once and is yours alone. Codes and tokens never stand on a command line.", "signalbox oauth login github-bot --provider github\nsignalbox oauth login team-beta --provider anthropic\nsignalbox oauth login tv --provider work --device --oauth-scope read\nsignalbox oauth login batch --provider work --client-credentials --client-id job --client-secret-stdin < secret"},
		{"oauth status", "Shows the health of OAuth connections: healthy, refresh_failing (another try follows), refresh_uncertain (nobody knows whether the provider took the last call) or needs_login (only a person can help), when the access token ends, when it was last refreshed, and what the last failure was.", "signalbox oauth status\nsignalbox oauth status github-bot --json"},
		{"oauth provider list", "Lists the OAuth providers at which one can log in: those that Signalbox knows, with what was set on them, and those that were added.", "signalbox oauth provider list\nsignalbox oauth provider list --json"},
		{"oauth provider show", "Shows an OAuth provider: its addresses, its scopes, the redirect address to register there, and what to know about it. Its client secret is never shown.", "signalbox oauth provider show google"},
		{"oauth provider add", "Adds an OAuth provider. With --issuer it is asked for its addresses (RFC 8414, OpenID Connect); otherwise give at least --token-url. What is stored is bound by a MAC: changed in the database, it gets no token any more.", "signalbox oauth provider add work --issuer https://id.example.com --client-id ID --client-secret-stdin < secret\nsignalbox oauth provider add legacy --authorize-url https://old.example.com/auth --token-url https://old.example.com/token --client-id ID"},
		{"oauth provider edit", "Changes an OAuth provider; of one that Signalbox knows only the client, the scopes and whether it is on. Logins that have begun there are void. With another client or other addresses the client secret must be given again. A provider of consumer subscriptions is off until an administrator has read why and switches it on with --enable; that is recorded.", "signalbox oauth provider edit github --client-id ID --client-secret-stdin < secret\nsignalbox oauth provider edit anthropic --enable\nsignalbox oauth provider edit work --disable"},
		{"oauth provider rm", "Deletes an OAuth provider that was added, if no credential belongs to it, or what was set on one that Signalbox knows.", "signalbox oauth provider rm work\nsignalbox oauth provider rm github --yes"},

		{"group create", "Makes a group of people. What is granted to the group is granted to whoever is in it, for as long as they are.", "signalbox group create ops --description 'on call'"},
		{"group list", "Lists the groups, with how many people are in each.", "signalbox group list\nsignalbox group list --json"},
		{"group show", "Shows a group and who is in it.", "signalbox group show ops"},
		{"group edit", "Changes a group's name or description. What was granted to it stays.", "signalbox group edit ops --name operations"},
		{"group add", "Puts a person into a group. The person is named by e-mail address or id.", "signalbox group add ops ada@example.com"},
		{"group remove", "Takes a person from a group. What was granted to the group is theirs no longer, at once.", "signalbox group remove ops ada@example.com"},
		{"group rm", "Deletes a group. What was granted to it goes with it.", "signalbox group rm ops\nsignalbox group rm ops --yes"},

		{"service-account create", "Makes a service account: a caller that is no person, such as a pipeline. It has a role as people have, which never goes beyond your own, and tokens of its own. As a member, which is the default, it reaches what it stores and what is granted to it.", "signalbox service-account create ci --description 'the build pipeline'\nsignalbox service-account create backup --role auditor"},
		{"service-account list", "Lists the service accounts with their roles.", "signalbox service-account list\nsignalbox service-account list --json"},
		{"service-account edit", "Changes a service account's name, description or role. Its tokens may from then on do what the new role and their scopes both allow.", "signalbox service-account edit ci --role operator"},
		{"service-account deactivate", "Ends a service account: its tokens work nowhere, within a second. What was granted to it stays, for when it is activated again.", "signalbox service-account deactivate ci"},
		{"service-account activate", "Lets a deactivated service account's tokens work again, but those that were revoked or have expired.", "signalbox service-account activate ci"},

		{"oauth refresh-drill", "Checks that no OAuth grant is lost, in a minute and without touching anything: it starts Signalbox on throw-away data, in processes of this very program, with connections at a built-in OAuth server that means harm. That server rotates refresh tokens, takes the whole grant away when one is used twice, and besides answers 503 or 429, cuts connections before and after it has rotated, answers garbage, and hangs. Many callers use the connections while their access tokens end again and again.\n\nIt prints, for each connection, the calls of the token endpoint, those that met mischief, the recoveries and whether the grant was kept. The exit code is 1 when a grant, an expiry or a caller was lost, when a token was sent twice without a reason, or when the audit log lacks a call. A connection without grace loses no answer after its token was rotated: that no client can survive without a login.\n\n--naive is the control: the same callers without Signalbox lose every grant. --postgres makes a database of its own on the server that DATABASE_URL names, which the role must be allowed to do, runs several processes on it, and removes it again.", "signalbox oauth refresh-drill\nsignalbox oauth refresh-drill --naive\nDATABASE_URL=postgres://signalbox@127.0.0.1/postgres signalbox oauth refresh-drill --postgres --processes 3 --expiries 5\nsignalbox oauth refresh-drill --seed 7 --json"},

		{"audit tail", "Prints the newest records of the audit log, in its order; with --follow it goes on. With --json each record is one line.", "signalbox audit tail -n 50\nsignalbox audit tail --follow --json"},
		{"audit search", "Searches the audit log, the newest records first. An intent shows with its outcome.", "signalbox audit search --action credential.reveal --since 7d\nsignalbox audit search --outcome refused --json"},
		{"audit verify", "", "signalbox audit verify\nsignalbox audit verify --checkpoint /mnt/elsewhere/checkpoints.log --json"},
		{"audit prove", "Proves that one record is in the signed log. The proof can be saved with --json and checked anywhere, without a server.", "signalbox audit prove evt_01m80rvgm8e3drxqxa5zhs6fhr --json\nsignalbox audit prove --check proof.json"},

		{"user add", "Adds a person. Without a password it prints a link that works once, for seven days, by which they set their own; hand it over on a way that you trust. The roles and what they may do are in docs/reference/permissions.md.", "signalbox user add bob@example.com --name Bob --role operator\nsignalbox user add eve@example.com --role auditor --password-stdin < password"},
		{"user list", "Lists people with their role, their state and when they last signed in.", "signalbox user list\nsignalbox user list --json"},
		{"user edit", "Changes a person, who is named by e-mail address or id. Another role ends their sessions. Nobody changes their own role, and the last administrator who can sign in keeps it.", "signalbox user edit bob@example.com --role auditor\nsignalbox user edit bob@example.com --activate"},
		{"user reset-factors", "Removes a person's authenticator app, passkeys and recovery codes, and ends their sessions: for somebody who has lost them all. Make sure that it is they who ask. Nobody resets their own.", "signalbox user reset-factors bob@example.com\nsignalbox user reset-factors bob@example.com --yes"},
		{"user reset", "Voids a person's password at once, ends their sessions, and prints a link that works once, for a day, by which they set a new one. On the server's own machine this also helps the only administrator who has forgotten theirs.", "signalbox user reset bob@example.com\nsignalbox user reset bob@example.com --yes"},
		{"user deactivate", "Deactivates a person: their sessions, their tokens and what they have open end within a second, everywhere. Client keys belong to their trains and stay; revoke those that the person knows. The record of what they did stays.", "signalbox user deactivate bob@example.com\nsignalbox user deactivate bob@example.com --yes"},
		{"sso add", "Adds an OpenID provider, with a button on the sign-in page. The client secret comes from standard input and is kept sealed. It prints the address to register with the provider. Recipes for Keycloak, Google, Entra ID and Okta are in docs/guide/single-sign-on.md.", "signalbox sso add work --issuer https://id.example.com/realms/main --client-id signalbox --client-secret-stdin --domain example.com --create-people --default-role member < secret\nsignalbox sso add work --issuer https://id.example.com --client-id signalbox --groups-claim groups --role signalbox-admins=administrator --role everyone=member --create-people"},
		{"sso list", "Lists the providers. Their client secrets are never shown.", "signalbox sso list\nsignalbox sso list --json"},
		{"sso edit", "Changes a provider, who is named by name or id; what is not said stays. Another issuer needs the client secret anew. Sign-ins that have begun there are void.", "signalbox sso edit work --label 'Work account' --second-factor always\nsignalbox sso edit work --enabled=false"},
		{"sso rm", "Deletes a provider. Sessions go on until they end; people stay, and those without a password can no longer sign in until you reset theirs.", "signalbox sso rm work\nsignalbox sso rm work --yes"},
		{"sso test", "Asks a provider what it is and shows what was found: its addresses, algorithms, scopes and claims. What is wrong stands in the error, with exit code 5.", "signalbox sso test work\nsignalbox sso test work --json"},

		{"notify channel add", "Makes a place where notifications go: Slack (an incoming webhook), any webhook that checks signatures (Standard Webhooks), or e-mail. Its secret fields (url; signing_secret; password) are asked for without echo, or come from standard input or files, and are never shown again. A webhook without a signing secret of yours gets a new one, which is printed once.", "signalbox notify channel add ops\nsignalbox notify channel add pager --kind webhook --severity critical --secret-stdin url < address\nsignalbox notify channel add mail --kind email --host smtp.example.com --username signalbox --from signalbox@example.com --to ops@example.com"},
		{"notify channel list", "Lists the notification channels: where each leads and what it takes, never its secrets.", "signalbox notify channel list\nsignalbox notify channel list --json"},
		{"notify channel edit", "Changes a notification channel. A secret field is asked for anew with --replace. With another mail server, port, encryption or user name the password must be given again.", "signalbox notify channel edit ops --severity warning --message account.refused\nsignalbox notify channel edit ops --replace url\nsignalbox notify channel edit mail --disable"},
		{"notify channel rm", "Deletes a notification channel with its secrets and what waits for it.", "signalbox notify channel rm ops\nsignalbox notify channel rm ops --yes"},
		{"notify channel test", "Sends one test message through a channel now, waits for the receiver and says what became of it. The exit code is 1 when it was not delivered.", "signalbox notify channel test ops"},
		{"notify list", "Lists what became of the notifications of the last 30 days: delivered, waiting for another try, or given up (after 24 hours, or because the receiver refused for good), and why.", "signalbox notify list\nsignalbox notify list --state failed --channel ops --json"},

		{"token issue", "Issues a token, with which a person's scripts or a service account speak to the server. It is shown once; the token alone goes to standard output.", "signalbox token issue ci --scope trains:read --expires 30d\nsignalbox token issue build --service-account ci --expires 30d"},
		{"token list", "Lists your tokens, or those of a service account, with their scopes and last use, never the tokens.", "signalbox token list\nsignalbox token list --service-account ci"},
		{"token revoke", "Ends a token at once, everywhere.", "signalbox token revoke tok_01m80rvgm8e3drxqxa5zhs6fhr"},
		{"login", "Opens the server's page in the browser, where you sign in as always and agree that this computer's command line acts as you. From then on commands speak to that server as you, where no token and no other server is named. --no-browser, or a machine without one, prints the address and asks for the code that its page shows.\n\nThe sign-in is kept in $XDG_CONFIG_HOME/signalbox/login.json (else ~/.config), which only you can read, is renewed as it is used, and ends after 30 days unused or 180 days in all. It proves what the browser's did: what asks for a proof of the last five minutes asks for signalbox login again.", "signalbox login\nsignalbox login --server https://signalbox.example.com\nsignalbox login --server https://signalbox.example.com --no-browser"},
		{"logout", "Ends the sign-in of signalbox login at its server, and forgets it here. Tokens in variables and files stay.", "signalbox logout"},
		{"whoami", "Shows who the server takes you for, with which role and scopes, by what (signalbox login, a variable, the operator token), and until when.", "signalbox whoami\nsignalbox whoami --json"},
		{"version", "Prints the version of this program.", "signalbox version --json"},
		{"openapi", "Prints the OpenAPI document of the REST API, as the server gives it out at /api/openapi.json.", "signalbox openapi"},
	}
}

// teach gives each command its chapter, unless it says more itself.
func teach(root *cobra.Command) {
	for _, c := range manual() {
		cmd, rest, err := root.Find(strings.Fields(c.path))
		if err != nil || len(rest) > 0 {
			continue // the test of the tree tells
		}
		if cmd.Long == "" {
			cmd.Long = c.long
		}
		if cmd.Example == "" {
			cmd.Example = "  " + strings.ReplaceAll(c.example, "\n", "\n  ")
		}
	}
}
